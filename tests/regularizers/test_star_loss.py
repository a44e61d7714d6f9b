"""The STAR loss: its growth curves, its equality with the isotropic penalty, and what it does to channels."""

from __future__ import annotations

import math

import pytest
import torch

from star_hf import channel_kl, growth_curve, isotropic_kl, star_loss


@pytest.mark.parametrize(
    ("num_channels", "growth", "positions"),
    [
        (1, "gamma", [0]),
        (1, "linear", [0]),
        (1, "step", [0]),
        (2, "gamma", [0, 1]),
        (2, "linear", [0, 1]),
        (2, "step", [0, 1]),
        (5, "gamma", [0, 1 / 16, 1 / 4, 9 / 16, 1]),
        (5, "linear", [0, 1 / 4, 1 / 2, 3 / 4, 1]),
        (5, "step", [0, 0, 0, 1, 1]),
        (4, "step", [0, 0, 1, 1]),
    ],
)
def test_growth_curves_worked_by_hand(num_channels, growth, positions):
    expected = torch.tensor([1e-4 + 3e-4 * position for position in positions], dtype=torch.float64)
    curve = growth_curve(num_channels, growth=growth)
    torch.testing.assert_close(curve.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("gamma", "middle"), [(0.5, 0.5**0.5), (1.0, 0.5), (2.0, 0.25), (3.0, 0.125)])
def test_gamma_bends_the_curve(gamma, middle):
    torch.testing.assert_close(growth_curve(3, 0.0, 1.0, gamma=gamma).tolist(), [0.0, middle, 1.0])


def test_defaults_are_the_papers():
    curve = growth_curve(64)
    assert curve.shape == (64,)
    torch.testing.assert_close(curve[[0, -1]].tolist(), [1e-4, 4e-4])
    assert (curve.diff() > 0).all()


@pytest.mark.parametrize("growth", ["gamma", "linear", "step"])
def test_loss_is_the_weighted_sum_of_channel_divergences(growth):
    mean = torch.randn(3, 6, 4, dtype=torch.float64)
    std = torch.rand(3, 6, 4, dtype=torch.float64) + 0.1
    betas = growth_curve(6, 0.01, 0.05, growth, gamma=1.5).double()
    elementwise = 0.5 * (mean**2 + std**2 - torch.log(std**2) - 1)
    expected = sum(betas[channel] * elementwise[:, channel].mean() for channel in range(6))
    torch.testing.assert_close(star_loss(mean, std, 0.01, 0.05, growth, gamma=1.5), expected)


@pytest.mark.parametrize("growth", ["gamma", "linear", "step"])
def test_equal_betas_give_the_isotropic_penalty(growth):
    mean, std = torch.randn(2, 5, 7), torch.rand(2, 5, 7) + 0.1
    torch.testing.assert_close(star_loss(mean, std, 3e-4, 3e-4, growth), isotropic_kl(mean, std, 3e-4))


def descend(penalty) -> torch.Tensor:
    """KL per channel of a linear coder with one weight, one noise and one decoding weight per channel.

    Each channel codes its own unit-variance source x as z = a x + s ε and decodes it as w z; the loss has the
    expected squared error (1 - w a)² + w² s².
    """
    channels, frames = 4, 256
    x = torch.randn(1, channels, frames, dtype=torch.float64)
    x = x / x.square().mean(-1, keepdim=True).sqrt()
    encode, decode, log_noise = (
        torch.full((1, channels, 1), v, dtype=torch.float64) for v in (0.7, 0.7, -0.5)
    )
    parameters = [parameter.requires_grad_() for parameter in (encode, decode, log_noise)]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    for _ in range(500):
        mean, std = encode * x, log_noise.exp().expand_as(x)
        error = (1 - decode * encode).square() + decode.square() * log_noise.exp().square()
        loss = error.sum() + penalty(mean, std)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return channel_kl(encode * x, log_noise.exp().expand_as(x)).detach()


def test_descent_orders_the_channels_at_their_rate_distortion_optimum():
    betas = growth_curve(4, 0.1, 0.8).double()
    # The error s² with KL -½ ln s² is least at s² = β/2.
    ordered = descend(lambda mean, std: star_loss(mean, std, 0.1, 0.8))
    torch.testing.assert_close(ordered, -0.5 * torch.log(betas / 2), rtol=1e-3, atol=0)
    level = descend(lambda mean, std: isotropic_kl(mean, std, 0.2))
    expected = torch.full((4,), -0.5 * math.log(0.1), dtype=torch.float64)
    torch.testing.assert_close(level, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_channels": 0}, "`num_channels`.*0"),
        ({"beta_min": -1e-4}, "`beta_min`.*-0.0001"),
        ({"beta_min": 5e-4}, "`beta_max`.*0.0005 and 0.0004"),
        ({"beta_max": math.inf}, "`beta_max`.*inf"),
        ({"beta_min": math.nan}, "`beta_min`.*nan"),
        ({"growth": "cubic"}, "`growth`.*gamma, linear, step.*'cubic'"),
        ({"gamma": 0.0}, "`gamma`.*0"),
        ({"gamma": -1.0}, "`gamma`.*-1"),
        ({"gamma": math.nan}, "`gamma`.*nan"),
        ({"gamma": math.inf}, "`gamma`.*inf"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        growth_curve(**{"num_channels": 4, **arguments})
    if "num_channels" not in arguments:
        with pytest.raises(ValueError, match=message):
            star_loss(torch.zeros(1, 4, 2), torch.ones(1, 4, 2), **arguments)
