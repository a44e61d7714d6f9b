"""The rate of latents that have no KL: the capacity of a Gaussian channel with their designed noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .accumulation import checked_frame_rate, eighth_means, finite_or_none, head_tail_ratio


@dataclass(frozen=True)
class CapacityProfile:
    """Gaussian capacity of each latent channel in bits per frame; `frame_rate` in frames per second."""

    bits_per_channel: tuple[float, ...]
    frame_rate: float

    @property
    def capacity_kbps(self) -> float:
        """Total capacity in kbit/s. It is no `rate_kbps`: that is the KL of a posterior from its prior."""
        return math.fsum(self.bits_per_channel) * self.frame_rate / 1000

    @property
    def head_tail_ratio(self) -> float:
        """Mean capacity of the first eighth of the channels over that of the last."""
        return head_tail_ratio(self.bits_per_channel)

    def to_dict(self) -> dict:
        """All of it as plain numbers, for JSON; an infinite ratio is None."""
        return {
            "capacity_bits_per_channel": list(self.bits_per_channel),
            "capacity_bits_per_eighth": list(eighth_means(self.bits_per_channel)),
            "capacity_head_tail_ratio": finite_or_none(self.head_tail_ratio),
            "capacity_kbps": self.capacity_kbps,
            "frame_rate": self.frame_rate,
        }


def channel_capacity(
    variance: torch.Tensor, noise_std: float | torch.Tensor, frame_rate: float
) -> CapacityProfile:
    """Capacity ½ log₂(1 + var_c / σ_c²) of each channel: what passes the noise σ_c that it was trained under.

    An upper bound on what latents of this variance carry through this noise, met by Gaussian ones that are
    independent over frames and channels. For posteriors of a fixed σ, and for deterministic latents whose
    decoder was trained with noise.

    Args:
        variance: of the noiseless latents (the posterior's mean) over a data set, `(channels,)`.
        noise_std: σ in the latents' own unit, one number or `(channels,)`.
        frame_rate: frames per second.

    Raises:
        ValueError: variances that are negative or not finite, noise that is not > 0 and finite, other shapes.
    """
    variance = torch.as_tensor(variance).detach().cpu().double()
    noise = torch.as_tensor(noise_std).detach().cpu().double()
    if variance.ndim != 1 or len(variance) == 0 or not torch.isfinite(variance).all() or (variance < 0).any():
        raise ValueError("`variance` must hold one finite number >= 0 for each channel.")
    if noise.shape not in ((), variance.shape) or not torch.isfinite(noise).all() or not (noise > 0).all():
        raise ValueError(
            f"`noise_std` must be a finite number > 0, or {len(variance)} of them, got {noise.tolist()!r}."
        )
    bits = 0.5 * torch.log1p(variance / noise.square()) / math.log(2)
    return CapacityProfile(tuple(bits.tolist()), checked_frame_rate(frame_rate))
