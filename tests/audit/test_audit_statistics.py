"""Numbers of latent spaces whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from star_hf.audit import LatentStatistics, dimensionality, gaussian_kl, linear_probe, monotonicity
from star_hf.audit.probe import ClipFeatures
from star_hf.generation.vae_interface import LatentMoments


def gaussian(mean, std):
    return LatentMoments(mean, torch.as_tensor(std).expand_as(mean), "gaussian")


def points(mean):
    return LatentMoments(mean, torch.zeros_like(mean), "deterministic")


def test_kl_rate_and_head_tail_ratio_by_hand():
    mean = torch.tensor([2.0, 1.0, 0.0])[None, :, None].expand(1, 3, 4).clone()
    report = LatentStatistics(3, frame_rate=10.0).update(gaussian(mean, 1.0)).to_dict()
    profile = report["profile"]
    assert profile["kind"] == "KL"
    assert profile["nats_per_channel"] == pytest.approx([2.0, 0.5, 0.0])
    assert profile["bits_per_frame"] == pytest.approx(2.5 / math.log(2))
    assert profile["rate_kbps"] == pytest.approx(2.5 / math.log(2) * 10 / 1000)
    assert profile["head_tail_ratio"] is None  # the tail carries nothing: infinite
    assert (profile["rank_correlation"], profile["falling_share"]) == (-1.0, 1.0)


@pytest.mark.parametrize("noise", [0.5, torch.tensor([0.5, 0.25])])
def test_points_with_designed_noise_have_a_capacity(noise):
    series = torch.tensor([1.0, -1.0]).repeat(8)
    latents = torch.stack([series, 2 * series])[None]
    report = LatentStatistics(2, 20.0, noise).update(points(latents)).to_dict()
    bits = [0.5 * math.log2(1 + 4), 0.5 * math.log2(1 + 4 / (torch.as_tensor(noise).min() ** 2).item())]
    assert report["profile"]["kind"] == "capacity"
    assert report["profile"]["bits_per_channel"] == pytest.approx(bits)


def test_points_without_noise_have_neither_kl_nor_rate():
    latents = torch.randn(1, 4, 50)
    report = LatentStatistics(4, 20.0).update(points(latents)).to_dict()
    assert report["profile"]["kind"] == "variance"
    assert report["profile"]["rate_kbps"] is None and report["profile"]["nats_per_channel"] is None
    assert report["profile"]["values"] == pytest.approx(latents[0].var(dim=-1, correction=0).tolist())
    assert any("neither KL nor rate" in note for note in report["notes"])


def test_temporal_difference_ratio_of_known_series():
    # Alternating ±1: differences of 2, squared 4, over twice the variance 1, is 2. A constant has none.
    alternating = torch.tensor([1.0, -1.0]).repeat(50)
    noise = torch.randn(20000)
    walk = torch.zeros(20000)  # an AR(1) of coefficient a has the ratio 1 - a
    for frame in range(1, 20000):
        walk[frame] = 0.9 * walk[frame - 1] + noise[frame]
    for series, ratio, tolerance in ((alternating, 2.0, 1e-9), (noise, 1.0, 0.03), (walk, 0.1, 0.02)):
        latents = torch.stack([series, torch.full_like(series, 3.0)])[None]
        report = LatentStatistics(2, 10.0).update(points(latents)).to_dict()
        assert report["temporal_difference_ratio_per_channel"][0] == pytest.approx(ratio, abs=tolerance)
        assert report["temporal_difference_ratio_per_channel"][1] is None


def test_the_same_in_pieces_where_no_difference_crosses_them():
    latents = torch.randn(2, 5, 60, dtype=torch.float64)
    together = LatentStatistics(5, 10.0).update(gaussian(latents, 0.5)).to_dict()
    parts = LatentStatistics(5, 10.0)
    for clip in latents:
        parts.update(gaussian(clip[None], 0.5))
    apart = parts.to_dict()
    for key in ("aggregate_kl", "latent_correlation", "spectral_decay", "temporal_difference_ratio"):
        assert apart[key] == pytest.approx(together[key], rel=1e-9)
    assert apart["profile"]["values"] == pytest.approx(together["profile"]["values"])


def test_effective_dimensions():
    assert dimensionality(torch.diag(torch.tensor([90.0, 6.0, 4.0])))["effective_dimensions"] == 2
    white = dimensionality(torch.eye(40))
    assert (white["effective_dimensions"], white["participation_ratio"]) == (38, pytest.approx(40))
    mixing = torch.randn(6, 2, dtype=torch.float64)
    assert dimensionality(mixing @ mixing.T)["effective_dimensions"] <= 2
    assert dimensionality(torch.zeros(3, 3))["effective_dimensions"] == 0


def test_gaussian_kl_against_torch():
    factor = torch.randn(4, 4, dtype=torch.float64)
    mean, covariance = torch.randn(4, dtype=torch.float64), factor @ factor.T + torch.eye(4)
    normal = torch.distributions.MultivariateNormal
    expected = torch.distributions.kl_divergence(
        normal(mean, covariance), normal(torch.zeros(4).double(), torch.eye(4).double())
    )
    assert gaussian_kl(mean, covariance) == pytest.approx(expected.item())
    assert gaussian_kl(torch.zeros(2), torch.eye(2)) == 0
    assert gaussian_kl(torch.zeros(2), torch.ones(2, 2)) is None


def test_the_aggregate_counts_the_posteriors_own_noise():
    # Means of variance ¾ with noise of variance ¼ are N(0, 1) together.
    means = torch.randn(1, 3, 40000) * math.sqrt(0.75)
    report = LatentStatistics(3, 10.0).update(gaussian(means, 0.5)).to_dict()
    assert report["aggregate_kl"] == pytest.approx(0, abs=2e-3)
    assert LatentStatistics(3, 10.0).update(points(means)).to_dict()["aggregate_kl"] > 0.03


@pytest.mark.parametrize(
    ("values", "rank", "share"),
    [([5, 4, 1, 0], -1, 1.0), ([0, 1, 2], 1, 0.0), ([2, 2, 2], None, 0.0), ([1], None, None)],
)
def test_monotonicity(values, rank, share):
    result = monotonicity(values)
    assert (result["rank_correlation"], result["falling_share"]) == (
        rank if rank is None else pytest.approx(rank),
        share,
    )


def test_monotonicity_is_spearmans():
    from scipy.stats import spearmanr

    values = np.random.default_rng(0).integers(0, 5, 30).tolist()  # with ties
    expected = spearmanr(range(30), values).statistic
    assert monotonicity(values)["rank_correlation"] == pytest.approx(expected)


def test_one_frame_and_one_channel():
    with pytest.raises(ValueError, match="two frames"):
        LatentStatistics(2, 10.0).update(points(torch.randn(3, 2, 1))).to_dict()
    with pytest.raises(ValueError, match="nothing to measure"):
        LatentStatistics(2, 10.0).to_dict()
    report = LatentStatistics(1, 10.0).update(points(torch.randn(1, 1, 9))).to_dict()
    assert report["latent_correlation"] is None and report["effective_dimensions"] == 1


def test_clip_features_of_pieces_are_those_of_the_clip():
    latents = torch.randn(1, 3, 40)
    features = ClipFeatures()
    features.update(7, latents[..., :15])
    features.update(7, latents[..., 15:])
    features.update(9, latents)
    features.drop(9)
    clips, table = features.table()
    expected = torch.cat([latents[0].mean(dim=-1), latents[0].std(dim=-1, correction=0)])
    assert clips == [7]
    np.testing.assert_allclose(table[0], expected, atol=1e-6)


def test_linear_probe_sees_what_is_there_and_nothing_else():
    random = np.random.default_rng(0)
    labels = [f"label {index % 2}" for index in range(80)]
    noise = random.normal(size=(80, 4))
    told = noise + 4 * np.array([[index % 2, 0, 0, 0] for index in range(80)])
    assert linear_probe(told, labels)["accuracy"] > 0.95
    assert linear_probe(noise, labels)["accuracy"] < 0.7
    assert linear_probe(told, labels)["chance"] == 0.5


def test_linear_probe_keeps_groups_together():
    # Each group has its own offset; a label is a group's. Unseen groups cannot be told.
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 8)
    features = random.normal(size=(10, 20))[groups] + random.normal(size=(80, 20)) * 0.01
    labels = [str(label) for label in random.permutation([0, 1] * 5)[groups]]
    assert linear_probe(features, labels)["accuracy"] == 1.0
    grouped = linear_probe(features, labels, groups.tolist())
    assert grouped["num_folds"] == 10 and grouped["accuracy"] < 0.9


@pytest.mark.parametrize(
    ("labels", "folds", "reason"),
    [
        (["a"] * 4, None, "two labels"),
        (["a", "a", "b", "c"], None, "one clip"),
        (["a", "b"] * 2, [1] * 4, "two folds"),
    ],
)
def test_linear_probe_says_why_there_is_none(labels, folds, reason):
    report = linear_probe(np.zeros((4, 2)), labels, folds)
    assert report["accuracy"] is None and reason in report["reason"]
