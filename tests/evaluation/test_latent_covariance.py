"""Latent correlation and local predictability against closed forms, scikit-learn and numpy."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from star_hf.evaluation import LatentCovariance, LatentMoments


def moments_of(covariance, mean=None):
    covariance = torch.tensor(covariance, dtype=torch.float64)
    mean = torch.zeros(len(covariance), dtype=torch.float64) if mean is None else mean
    return LatentMoments(mean, covariance, 1000)


def correlated(batch, channels, frames, seed=0):
    """Latents whose neighbouring channels share a part, with means far from 0."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, channels + 1, frames, generator=generator)
    return noise[:, 1:] + 0.8 * noise[:, :-1] + 5 * torch.arange(channels)[:, None]


def test_correlation_of_a_known_covariance():
    """ρ = 0.6, −0.2 and 0 after dividing by the standard deviations 2, 1 and 3: mean |ρ| is 0.8 / 3."""
    moments = moments_of([[4.0, 1.2, -1.2], [1.2, 1.0, 0.0], [-1.2, 0.0, 9.0]])
    expected = [[1.0, 0.6, -0.2], [0.6, 1.0, 0.0], [-0.2, 0.0, 1.0]]
    torch.testing.assert_close(moments.correlation, torch.tensor(expected, dtype=torch.float64))
    assert moments.latent_correlation == pytest.approx(0.8 / 3, rel=1e-12)
    assert moments.std.tolist() == pytest.approx([2, 1, 3])


def test_predictability_of_two_channels_is_the_squared_correlation():
    """With one neighbour R² is ρ² up to the ridge: w = ρ / (1 + λ), R² = ρ² (1 + 2λ) / (1 + λ)²."""
    rho, ridge = 0.6, 0.1
    moments = moments_of([[4.0, 2 * rho], [2 * rho, 1.0]])
    assert moments.local_predictability(ridge=1e-9) == pytest.approx(rho**2, rel=1e-8)
    expected = rho**2 * (1 + 2 * ridge) / (1 + ridge) ** 2
    assert moments.local_predictability(ridge=ridge) == pytest.approx(expected, rel=1e-12)


def test_predictability_of_a_markov_chain():
    """Channels with ρ_ij = a^|i−j|: R² is 2a² / (1 + a²) between two neighbours and a² at the ends."""
    a, channels = 0.7, 12
    index = np.arange(channels)
    moments = moments_of((a ** np.abs(index[:, None] - index)).tolist())
    for share in (0.06, 0.25):  # a wider neighbourhood of a Markov chain tells nothing more
        values = moments.predictability(share, ridge=1e-12)
        assert values[1:-1].tolist() == pytest.approx([2 * a**2 / (1 + a**2)] * (channels - 2), rel=1e-9)
        assert values[[0, -1]].tolist() == pytest.approx([a**2] * 2, rel=1e-9)


def test_the_neighbourhood_has_the_radius_of_the_definition():
    """⌈0.06 · 17⌉ = 2: a copy two channels away is seen, one three channels away is not."""
    for distance, seen in ((2, True), (3, False)):
        covariance = np.eye(17)
        covariance[5, 5 + distance] = covariance[5 + distance, 5] = 0.9
        values = moments_of(covariance.tolist()).predictability(0.06, ridge=1e-9)
        assert values[5].item() == pytest.approx(0.81 if seen else 0.0, abs=1e-6)


def test_predictability_agrees_with_ridge_regression_of_the_samples():
    latents = correlated(2, 6, 40)
    moments = LatentCovariance().update(latents).moments()
    samples = latents.transpose(1, 2).reshape(-1, 6).double().numpy()
    standardized = StandardScaler().fit_transform(samples)
    expected = []
    for channel in range(6):
        neighbours = [other for other in (channel - 1, channel + 1) if 0 <= other < 6]
        features, target = standardized[:, neighbours], standardized[:, channel]
        model = Ridge(alpha=0.05 * len(samples), fit_intercept=False).fit(features, target)
        expected.append(model.score(features, target))
    assert moments.predictability(0.06, ridge=0.05).tolist() == pytest.approx(expected, rel=1e-10)


def test_moments_agree_with_numpy_however_the_frames_come():
    latents = correlated(3, 5, 31)
    whole = LatentCovariance().update(latents).moments()
    parts = LatentCovariance()
    for batch in (latents[:1], latents[1:, :, :4], latents[1:, :, 4:]):
        parts.update(batch)
    samples = latents.transpose(0, 1).reshape(5, -1).double().numpy()
    for moments in (whole, parts.moments()):
        np.testing.assert_allclose(moments.mean, samples.mean(axis=1), rtol=1e-12)
        np.testing.assert_allclose(moments.covariance, np.cov(samples, bias=True), rtol=1e-10)
        assert moments.num_frames == 93


def test_a_large_mean_costs_no_precision():
    centred = torch.tensor([[1.0, -1.0, 1.0, -1.0], [1.0, -1.0, -1.0, 1.0]], dtype=torch.float64)[None]
    accumulator = LatentCovariance()
    for frame in (centred + 1e6).split(1, dim=2):
        accumulator.update(frame)
    torch.testing.assert_close(
        accumulator.moments().covariance, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_half_precision_latents_are_summed_in_double():
    latents = torch.tensor([300.0, -300.0]).half().repeat(1, 2, 4000)
    assert LatentCovariance().update(latents).moments().variance.tolist() == [90000.0, 90000.0]


def test_constant_channels_are_related_to_nothing():
    latents = torch.randn(1, 3, 50)
    latents[:, 1] = 0.1
    moments = LatentCovariance().update(latents[..., :20]).update(latents[..., 20:]).moments()
    assert moments.correlation[1].tolist() == [0.0, 1.0, 0.0]
    assert moments.predictability()[1].item() == 0.0
    assert math.isfinite(moments.latent_correlation)


def test_the_json_holds_plain_numbers():
    moments = LatentCovariance().update(correlated(1, 16, 200)).moments()
    content = json.loads(json.dumps(moments.to_dict(), allow_nan=False))
    variance = moments.variance
    assert content["variance_head_tail_ratio"] == pytest.approx(
        (variance[:2].mean() / variance[-2:].mean()).item()
    )
    assert content["latent_correlation"] == moments.latent_correlation
    assert content["local_predictability"] == moments.local_predictability(0.06, 1e-3)
    assert content["num_frames"] == 200


def test_wrong_latents_are_refused():
    with pytest.raises(ValueError, match="nothing to measure"):
        LatentCovariance().moments()
    with pytest.raises(ValueError, match=r"\(batch, channels, frames > 0\), got \(2, 3\)"):
        LatentCovariance().update(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="3 channels, earlier ones had 2"):
        LatentCovariance().update(torch.zeros(1, 2, 3)).update(torch.zeros(1, 3, 3))
    with pytest.raises(ValueError, match="NaN or infinite"):
        LatentCovariance().update(torch.full((1, 2, 3), math.nan))
    with pytest.raises(ValueError, match="one channel"):
        _ = LatentCovariance().update(torch.randn(1, 1, 9)).moments().latent_correlation
    moments = LatentCovariance().update(torch.randn(1, 4, 9)).moments()
    with pytest.raises(ValueError, match="`share`"):
        moments.predictability(0)
    with pytest.raises(ValueError, match="`ridge`"):
        moments.predictability(ridge=0)
