"""Structured Topology-Aware Regularization: a KL weight that grows over the channel index.

Source: Liu et al., "Structured Topology-Aware Regularization for Audio Reconstruction and Generation"
(arXiv 2606.23064), equations 4 and 5.
"""

import math

import torch

from .gaussian import channel_kl

GROWTH_FUNCTIONS = ("gamma", "linear", "step")


def growth_curve(
    num_channels: int,
    beta_min: float = 1e-4,
    beta_max: float = 4e-4,
    growth: str = "gamma",
    gamma: float = 2.0,
) -> torch.Tensor:
    """KL weight of each channel, `(num_channels,)` in float32.

    With x = (c − 1)/(C − 1) for c = 1…C, the weight is β_c = β_min + (β_max − β_min) · g(x) (equation 4),
    where g is

    - `"gamma"`: x^γ; γ = 2 is the paper's choice, γ < 1 is concave;
    - `"linear"`: x;
    - `"step"`: 0 for the first half of the channels and 1 for the second.

    Raises:
        ValueError: if an argument is outside its range, named in the message.
    """
    if num_channels < 1:
        raise ValueError(f"`num_channels` must be at least 1, not {num_channels}.")
    if not 0 <= beta_min <= beta_max < math.inf:
        raise ValueError(f"0 <= `beta_min` <= `beta_max` is required, not {beta_min} and {beta_max}.")
    if growth not in GROWTH_FUNCTIONS:
        raise ValueError(f"`growth` must be one of {', '.join(GROWTH_FUNCTIONS)}, not {growth!r}.")
    if not 0 < gamma < math.inf:
        raise ValueError(f"`gamma` must be positive and finite, not {gamma}.")
    position = torch.linspace(0, 1, num_channels, dtype=torch.float64)
    if growth == "gamma":
        position = position**gamma
    elif growth == "step":
        position = (torch.arange(num_channels) >= num_channels / 2).double()
    return (beta_min + (beta_max - beta_min) * position).float()


def star_loss(
    mean: torch.Tensor,
    std: torch.Tensor,
    beta_min: float = 1e-4,
    beta_max: float = 4e-4,
    growth: str = "gamma",
    gamma: float = 2.0,
) -> torch.Tensor:
    """Σ_c β_c KL_c (equation 5), a scalar: β_c from `growth_curve`, KL_c the mean over batch and frames.

    Args:
        mean, std: posterior of any variational autoencoder, `(batch, channels, frames)`.
    """
    per_channel = channel_kl(mean, std)
    weights = growth_curve(per_channel.shape[0], beta_min, beta_max, growth, gamma)
    return (weights.to(per_channel) * per_channel).sum()
