"""The bounds of a flow loss against regression on samples, and rates against the information of channels."""

from __future__ import annotations

import math

import pytest
import torch

from star_hf.probe import marginal_loss, posterior_floor, rate_weight
from star_hf.probe.flow_losses import RATE_END, flow_report, logit_normal_quantiles, shuffled_quantiles


@pytest.mark.parametrize("t", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("std", [0.0, 0.3, 1.0])
def test_the_floor_is_the_least_error_of_a_regression(t, std):
    """Of the target on z_t where the mean is known: for jointly Gaussian variables nothing beats a line."""
    generator = torch.Generator().manual_seed(0)
    noise, own = torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
    latents = 0.7 + std * own
    point, target = (1 - t) * noise + t * latents - 0.7 * t, latents - noise - 0.7
    slope = (point * target).mean() / point.square().mean()
    least = (target - slope * point).square().mean().item()
    floor = posterior_floor(torch.tensor(t, dtype=torch.float64), torch.tensor(std)).item()
    assert floor == pytest.approx(least, rel=0.01, abs=1e-12)


def test_latents_of_which_nothing_is_known_have_the_marginal_loss():
    t = torch.linspace(0, 1, 11)
    assert torch.allclose(posterior_floor(t, torch.ones(())), marginal_loss(t))
    assert marginal_loss(torch.tensor([0.0, 0.5, 1.0])).tolist() == [1, 2, 1]


def test_the_rate_of_gaussian_latents_is_the_capacity_of_their_channel():
    """½ ln(1 + r) nats at signal-to-noise r, and what the posterior's own noise leaves of it."""
    for end in (0.3, 0.9, 0.99):
        t = torch.linspace(0, end, 200_001, dtype=torch.float64)
        weights = rate_weight(t).diff()
        middle = (t[1:] + t[:-1]) / 2
        ratio = (end / (1 - end)) ** 2
        assert (weights * marginal_loss(middle)).sum().item() == pytest.approx(
            0.5 * math.log1p(ratio), rel=1e-5
        )
        floor = posterior_floor(middle, torch.tensor(0.2, dtype=torch.float64))
        kept = 0.5 * math.log((1 + ratio) / (1 + 0.04 * ratio))
        assert (weights * (marginal_loss(middle) - floor)).sum().item() == pytest.approx(kept, rel=1e-5)


def _report(std, share, count=4000, frames=None):
    """Losses a `share` of the way from the floor of a posterior with deviation `std` to the marginal loss."""
    quantiles = shuffled_quantiles(count)
    t = logit_normal_quantiles(quantiles)
    floors = posterior_floor(t, torch.tensor(std, dtype=torch.float64))
    losses = floors + share * (marginal_loss(t) - floors)
    return flow_report(losses, floors, quantiles, frames or [7] * count, numbers_per_second=1000.0)


def test_knowing_nothing_is_one_and_knowing_the_mean_is_zero():
    ratio = (RATE_END / (1 - RATE_END)) ** 2
    nothing = _report(0.0, 1.0)
    assert nothing.relative_flow_loss == pytest.approx(1)
    assert nothing.relative_flow_loss_by_time == pytest.approx([1] * 4)
    assert nothing.reducible_flow_loss == pytest.approx(1)
    assert nothing.unpredicted_rate == pytest.approx(0.5 * math.log2(1 + ratio), rel=1e-3)
    everything = _report(0.5, 0.0)
    assert everything.reducible_flow_loss == pytest.approx(0)
    assert everything.unpredicted_rate == pytest.approx(0, abs=1e-9)
    assert 0 < everything.relative_flow_loss < 1
    assert _report(0.5, 0.6).reducible_flow_loss == pytest.approx(0.6)


def test_channels_of_pure_noise_change_the_relative_loss_alone():
    """Half of the channels are the posterior's noise: their loss is the marginal one, as is their floor."""
    quantiles = shuffled_quantiles(4000)
    t = logit_normal_quantiles(quantiles)
    marginal, half = marginal_loss(t), 0.5 * marginal_loss(t)
    frames = [3] * len(t)
    alone = flow_report(half, torch.zeros_like(t), quantiles, frames, 100.0)
    padded = flow_report((half + marginal) / 2, marginal / 2, quantiles, frames, 200.0)
    assert alone.relative_flow_loss == pytest.approx(0.5)
    assert padded.relative_flow_loss == pytest.approx(0.75)
    assert padded.reducible_flow_loss == pytest.approx(alone.reducible_flow_loss) == pytest.approx(0.5)
    assert padded.unpredicted_rate == pytest.approx(alone.unpredicted_rate)


def test_latents_without_any_signal_have_no_reducible_loss():
    report = _report(1.0, 1.0)
    assert report.reducible_flow_loss is None and report.reducible_flow_loss_by_time == [None] * 4
    assert report.unpredicted_rate == pytest.approx(0, abs=1e-9)


def test_frames_weigh_the_clips():
    quantiles = torch.tensor([0.25, 0.75], dtype=torch.float64)
    losses = torch.tensor([1.0, 3.0])
    report = flow_report(losses, torch.zeros(2), quantiles, [30, 10], 1.0)
    assert report.flow_loss == pytest.approx((30 * 1 + 10 * 3) / 40)


def test_the_times_are_strata_of_the_training_distribution():
    quantiles = shuffled_quantiles(999)
    assert quantiles.sort().values.tolist() == pytest.approx([(i + 0.5) / 999 for i in range(999)])
    assert quantiles.tolist() != quantiles.sort().values.tolist()
    logits = torch.logit(logit_normal_quantiles(quantiles))
    assert logits.mean().item() == pytest.approx(0, abs=1e-3)
    assert logits.std().item() == pytest.approx(1, abs=0.01)
