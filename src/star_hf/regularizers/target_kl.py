"""Target-KL: a penalty that pulls the measured rate of the latents to a chosen one.

Source: "Taming Audio VAEs via Target-KL Regularization" (2026): a squared penalty that trains an audio VAE at
a specified bitrate. Its published summary gives no formula: here the deviation is relative to the target, so
that one weight serves every rate, frame rate and number of channels.
"""

import math

import torch

from .gaussian import channel_kl, rate_kbps
from .star import growth_curve


def target_kl_loss(
    mean: torch.Tensor, std: torch.Tensor, target_kbps: float, frame_rate: float, weight: float = 10.0
) -> torch.Tensor:
    """w · (R/R* − 1)², a scalar: R is the measured rate Σ_c KL_c / ln 2 · frame_rate, R* the target.

    At the optimum the relative deviation is −(dD/d ln R) / 2w for a reconstruction loss D: a slope of 0.2 per
    unit of ln R leaves 1% at the default weight.

    Args:
        mean, std: posterior of any variational autoencoder, `(batch, channels, frames)`.
        target_kbps: R* in kbit/s.
        frame_rate: latent frames per second.
        weight: w.

    Raises:
        ValueError: if the target, the frame rate or the weight is not a positive number.
    """
    _require_positive(target_kbps=target_kbps, weight=weight)
    return weight * (rate_kbps(mean, std, frame_rate) / target_kbps - 1).square()


def target_star_loss(
    mean: torch.Tensor,
    std: torch.Tensor,
    target_kbps: float,
    frame_rate: float,
    weight: float = 10.0,
    beta_min: float = 1e-4,
    beta_max: float = 4e-4,
    growth: str = "gamma",
    gamma: float = 2.0,
) -> torch.Tensor:
    """Target-KL with STAR's order: each channel has its share of the target rate (`channel_rates`).

    With target T_c of channel c in nats per frame and s_c = T_c / Σ T, the loss is the scalar
    w · Σ_c s_c (KL_c/T_c − 1)². It is at least `target_kl_loss` (Jensen), and equal to it where all channels
    deviate alike.

    Args:
        mean, std: posterior of any variational autoencoder, `(batch, channels, frames)`.
        target_kbps, frame_rate, weight: as in `target_kl_loss`.
        beta_min, beta_max, growth, gamma: the growth curve.

    Raises:
        ValueError: as `target_kl_loss` and `channel_rates` do.
    """
    _require_positive(target_kbps=target_kbps, weight=weight, frame_rate=frame_rate)
    per_channel = channel_kl(mean, std)
    shares = channel_rates(per_channel.shape[0], beta_min, beta_max, growth, gamma).to(per_channel)
    targets = shares * (target_kbps * 1000 * math.log(2) / frame_rate)
    return weight * (shares * (per_channel / targets - 1).square()).sum()


def channel_rates(
    num_channels: int,
    beta_min: float = 1e-4,
    beta_max: float = 4e-4,
    growth: str = "gamma",
    gamma: float = 2.0,
) -> torch.Tensor:
    """Share of the rate that each channel gets, `(num_channels,)` in float32, sum 1: inverse to STAR's β_c.

    A channel whose information costs β_c per nat is worth using until the distortion it saves falls to that,
    so at equal usefulness the rate goes as 1/β_c.

    Raises:
        ValueError: as `growth_curve` does, and if `beta_min` is 0, which would leave one channel all of the
            rate.
    """
    if not beta_min > 0:
        raise ValueError(f"`beta_min` must be greater than 0 to divide a rate by the curve, not {beta_min}.")
    inverse = 1 / growth_curve(num_channels, beta_min, beta_max, growth, gamma)
    return inverse / inverse.sum()


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"`{name}` must be a positive number, not {value}.")
