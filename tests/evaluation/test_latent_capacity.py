"""Capacity of the Gaussian channel between encoder and decoder: closed forms."""

import json
import math

import pytest
import torch

from star_hf.evaluation import channel_capacity


def test_capacity_of_known_signal_to_noise_ratios():
    """½ log₂(1 + 3) = 1 bit, ½ log₂(1 + 15) = 2 bits, nothing for a silent channel."""
    profile = channel_capacity(torch.tensor([0.75, 3.75, 0.0]), 0.5, frame_rate=20)
    assert profile.bits_per_channel == pytest.approx((1, 2, 0), abs=1e-12)
    assert profile.capacity_kbps == pytest.approx(3 * 20 / 1000)


def test_noise_may_differ_between_channels():
    profile = channel_capacity(torch.tensor([3.0, 12.0]), torch.tensor([1.0, 2.0]), 1000)
    assert profile.bits_per_channel == pytest.approx((1, 1))
    assert profile.head_tail_ratio == pytest.approx(1)


def test_it_is_the_information_that_a_gaussian_channel_carries():
    """For a Gaussian mean, KL(q ‖ p) with the aggregate p = N(0, var + σ²) averages to the capacity."""
    variance, sigma = 2.0, 0.7
    mean = torch.randn(400_000, dtype=torch.float64) * math.sqrt(variance)
    posterior = torch.distributions.Normal(mean, sigma)
    aggregate = torch.distributions.Normal(0.0, math.sqrt(variance + sigma**2))
    nats = torch.distributions.kl_divergence(posterior, aggregate).mean().item()
    profile = channel_capacity(torch.tensor([variance]), sigma, 1)
    assert profile.bits_per_channel[0] == pytest.approx(nats / math.log(2), rel=1e-2)


def test_small_signals_keep_their_digits():
    profile = channel_capacity(torch.tensor([1e-20]), 1.0, 1)
    assert profile.bits_per_channel[0] == pytest.approx(0.5e-20 / math.log(2), rel=1e-12)


def test_the_names_in_json_are_not_those_of_a_rate():
    profile = channel_capacity(torch.tensor([3.0] * 8 + [0.0] * 8), 1.0, 1000)
    content = json.loads(json.dumps(profile.to_dict(), allow_nan=False))
    assert content["capacity_kbps"] == pytest.approx(8)
    assert content["capacity_bits_per_eighth"] == pytest.approx([1] * 4 + [0] * 4)
    assert content["capacity_head_tail_ratio"] is None
    assert "rate_kbps" not in content


@pytest.mark.parametrize(
    ("variance", "noise", "name"),
    [
        ([1.0, -1.0], 1.0, "`variance`"),
        ([math.nan], 1.0, "`variance`"),
        ([1.0], 0.0, "`noise_std`"),
        ([1.0], [1.0, 1.0], "`noise_std`"),
        ([1.0], math.inf, "`noise_std`"),
    ],
)
def test_wrong_numbers_are_refused(variance, noise, name):
    with pytest.raises(ValueError, match=name):
        channel_capacity(torch.tensor(variance), torch.tensor(noise), 10)


def test_the_frame_rate_is_checked():
    with pytest.raises(ValueError, match="`frame_rate`"):
        channel_capacity(torch.ones(2), 1.0, 0)
