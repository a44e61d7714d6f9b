"""What the accumulators over latents share: one way to take tensors in, groups of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def checked_latents(latents: torch.Tensor, channels: int | None = None) -> torch.Tensor:
    """`latents` `(batch, channels, frames)` on the CPU in float64.

    Raises `ValueError` for another number of dimensions, nothing in them, values that are not finite, or
    another number of channels than `channels`.
    """
    if latents.ndim != 3 or latents.numel() == 0:
        raise ValueError(f"`latents` must be (batch, channels, frames > 0), got {tuple(latents.shape)}.")
    if channels is not None and latents.shape[1] != channels:
        raise ValueError(f"`latents` has {latents.shape[1]} channels, earlier ones had {channels}.")
    values = latents.detach().cpu().double()
    if not torch.isfinite(values).all():
        raise ValueError("`latents` holds NaN or infinite values.")
    return values


def checked_frame_rate(frame_rate: float) -> float:
    """Raises `ValueError` for a rate that is not a finite number > 0 of frames per second."""
    if not (math.isfinite(frame_rate) and frame_rate > 0):
        raise ValueError(f"`frame_rate` must be a finite number > 0, got {frame_rate!r}.")
    return float(frame_rate)


def eighth_means(per_channel: Sequence[float]) -> tuple[float, ...]:
    """Mean of each eighth of the channels, first to last; of each channel if there are fewer than eight."""
    values = torch.tensor(per_channel, dtype=torch.float64)
    return tuple(group.mean().item() for group in values.tensor_split(min(8, len(values))))


def head_tail_ratio(per_channel: Sequence[float]) -> float:
    """Mean of the first eighth of the channels over that of the last; infinite where the last is 0."""
    eighths = eighth_means(per_channel)
    return eighths[0] / eighths[-1] if eighths[-1] > 0 else math.inf


def finite_or_none(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
