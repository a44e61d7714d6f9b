"""Target-KL: by hand, at its minimum, from above and below, and divided among the channels."""

import math

import pytest
import torch

from star_hf.regularizers import (
    channel_kl,
    channel_rates,
    growth_curve,
    mean_energy,
    rate_kbps,
    target_kl_loss,
    target_star_loss,
)

FRAME_RATE = 21.5


def posterior(channels=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(3, channels, 10, generator=generator, dtype=torch.float64)
    std = 0.1 + torch.rand(3, channels, 10, generator=generator, dtype=torch.float64)
    return mean, std


def test_the_value_by_hand():
    # mean 2, std 1: KL = 2 nats per channel and frame; 3 channels at 10 frames/s: 60 nats/s
    mean, std = torch.full((1, 3, 5), 2.0), torch.ones(1, 3, 5)
    rate = 60 / math.log(2) / 1000
    assert target_kl_loss(mean, std, rate, 10.0).item() == pytest.approx(0.0, abs=1e-10)
    assert target_kl_loss(mean, std, rate / 2, 10.0).item() == pytest.approx(10.0, rel=1e-5)
    assert target_kl_loss(mean, std, 2 * rate, 10.0, weight=3.0).item() == pytest.approx(0.75, rel=1e-5)


@pytest.mark.parametrize("target", [0.2, 5.0])
def test_the_gradient_leads_to_the_target_from_above_and_below(target):
    mean, std = posterior()
    start = float(rate_kbps(mean, std, FRAME_RATE))
    assert 0.2 < start < 5.0
    scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    log_std = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([scale, log_std], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        target_kl_loss(mean * scale.exp(), std * log_std.exp(), target, FRAME_RATE).backward()
        optimizer.step()
    reached = rate_kbps(mean * scale.exp(), std * log_std.exp(), FRAME_RATE)
    assert reached.item() == pytest.approx(target, rel=1e-3)


def test_it_does_not_depend_on_frame_rate_or_channels_at_equal_deviation():
    mean, std = posterior()
    twice = torch.cat([mean, mean], dim=1), torch.cat([std, std], dim=1)
    loss = target_kl_loss(mean, std, 1.0, FRAME_RATE)
    torch.testing.assert_close(target_kl_loss(*twice, 2.0, FRAME_RATE), loss)
    torch.testing.assert_close(target_kl_loss(mean, std, 3.0, 3 * FRAME_RATE), loss)


def test_shares_are_the_inverse_of_the_growth_curve():
    shares, curve = channel_rates(16), growth_curve(16)
    assert shares.sum().item() == pytest.approx(1.0, rel=1e-6)
    torch.testing.assert_close(shares * curve, (shares * curve).mean().expand(16))
    assert shares[0] / shares[-1] == pytest.approx(4.0, rel=1e-5)


def test_the_divided_target_is_met_by_the_shares_alone():
    target = 1.5
    nats = channel_rates(8).double() * target * 1000 * math.log(2) / FRAME_RATE
    mean = (2 * nats).sqrt()[None, :, None].expand(2, 8, 4)
    std = torch.ones_like(mean)
    torch.testing.assert_close(channel_kl(mean, std), nats)
    assert target_star_loss(mean, std, target, FRAME_RATE).item() == pytest.approx(0.0, abs=1e-10)
    # the same rate, spread evenly: the total fits, the shares do not
    even = (2 * nats.mean()).sqrt().expand(2, 8, 4)
    assert target_kl_loss(even, std, target, FRAME_RATE).item() == pytest.approx(0.0, abs=1e-10)
    assert target_star_loss(even, std, target, FRAME_RATE).item() > 0.1


def test_the_divided_loss_is_never_below_the_undivided_one():
    for seed in range(5):
        mean, std = posterior(seed=seed)
        whole = target_kl_loss(mean, std, 1.0, FRAME_RATE)
        assert target_star_loss(mean, std, 1.0, FRAME_RATE) >= whole
    # equal where all channels deviate alike
    nats = 1.3 * channel_rates(8).double() * 1000 * math.log(2) / FRAME_RATE
    mean = (2 * nats).sqrt()[None, :, None]
    losses = [
        loss(mean, torch.ones_like(mean), 1.0, FRAME_RATE) for loss in (target_kl_loss, target_star_loss)
    ]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=0)


def test_mean_energy_is_the_kl_without_the_variance():
    mean, std = posterior()
    first, second = (channel_kl(m, std).sum() for m in (mean, 3 * mean))
    torch.testing.assert_close(mean_energy(3 * mean) - mean_energy(mean), second - first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_kbps": 0.0}, "`target_kbps` must be a positive number, not 0.0"),
        ({"target_kbps": math.inf}, "`target_kbps`"),
        ({"weight": -1.0}, "`weight` must be a positive number, not -1.0"),
        ({"frame_rate": 0.0}, "`frame_rate` must be a positive number"),
    ],
)
@pytest.mark.parametrize("loss", [target_kl_loss, target_star_loss])
def test_wrong_values_are_named(loss, changes, message):
    with pytest.raises(ValueError, match=message):
        loss(*posterior(), **{"target_kbps": 1.0, "frame_rate": FRAME_RATE, **changes})


def test_a_rate_cannot_be_divided_by_a_weight_of_zero():
    with pytest.raises(ValueError, match="`beta_min` must be greater than 0"):
        channel_rates(8, beta_min=0.0)
