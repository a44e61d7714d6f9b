"""How a latent space spends its rate: KL per channel, measured over a dataset."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .accumulation import checked_frame_rate, eighth_means, finite_or_none, head_tail_ratio


@dataclass(frozen=True)
class LatentProfile:
    """Capacity of each latent channel.

    `kl_per_channel` is the mean KL from N(0, 1) in nats per frame, `frame_rate` in frames per second,
    `num_frames` how many frames were measured.
    """

    kl_per_channel: tuple[float, ...]
    frame_rate: float
    num_frames: int

    @property
    def nats_per_frame(self) -> float:
        """Total KL of a frame."""
        return math.fsum(self.kl_per_channel)

    @property
    def rate_kbps(self) -> float:
        """Rate in kbit/s: total KL in bits times frames per second."""
        return self.nats_per_frame / math.log(2) * self.frame_rate / 1000

    @property
    def eighths(self) -> tuple[float, ...]:
        """Mean KL of each eighth of the channels, first to last; of each channel if there are fewer."""
        return eighth_means(self.kl_per_channel)

    @property
    def head_tail_ratio(self) -> float:
        """Mean KL of the first eighth over that of the last: above 1 when the head carries more."""
        return head_tail_ratio(self.kl_per_channel)

    def to_dict(self) -> dict:
        """All of it as plain numbers, for JSON; an infinite ratio (a tail without information) is None."""
        return {
            "kl_per_channel": list(self.kl_per_channel),
            "kl_per_eighth": list(self.eighths),
            "head_tail_ratio": finite_or_none(self.head_tail_ratio),
            "nats_per_frame": self.nats_per_frame,
            "rate_kbps": self.rate_kbps,
            "frame_rate": self.frame_rate,
            "num_frames": self.num_frames,
        }


class ChannelKL:
    """Adds up the KL of each channel over posteriors of any batch size and length, in float64.

    `profile` gives the mean over all frames seen, so that it does not matter how they came in batches.
    """

    def __init__(self) -> None:
        self.total: torch.Tensor | None = None
        self.num_frames = 0

    def update(self, mean: torch.Tensor, std: torch.Tensor) -> ChannelKL:
        """Add posteriors N(mean, std²) of shape `(batch, channels, frames)`; returns itself.

        KL = ½(μ² + σ² − ln σ² − 1) in nats. Raises `ValueError` for other shapes, another number of channels
        than before, a std that is not positive, or values that are not finite.
        """
        if mean.ndim != 3 or mean.shape != std.shape or mean.numel() == 0:
            raise ValueError(
                "`mean` and `std` must both be (batch, channels, frames), not "
                f"{tuple(mean.shape)} and {tuple(std.shape)}."
            )
        if self.total is not None and len(self.total) != mean.shape[1]:
            raise ValueError(f"`mean` has {mean.shape[1]} channels, earlier ones had {len(self.total)}.")
        mean, std = mean.detach().cpu().double(), std.detach().cpu().double()
        if not (torch.isfinite(mean).all() and torch.isfinite(std).all() and (std > 0).all()):
            raise ValueError("`mean` must be finite and `std` finite and > 0.")
        variance = std.square()
        kl = (0.5 * (mean.square() + variance - variance.log() - 1)).sum(dim=(0, 2))
        self.total = kl if self.total is None else self.total + kl
        self.num_frames += mean.shape[0] * mean.shape[2]
        return self

    def profile(self, frame_rate: float) -> LatentProfile:
        """The profile of what was seen, at `frame_rate` frames per second.

        Raises `ValueError` when nothing was seen or the rate is not positive.
        """
        if self.total is None:
            raise ValueError("No posterior was added: there is nothing to measure.")
        per_channel = (self.total / self.num_frames).tolist()
        return LatentProfile(tuple(per_channel), checked_frame_rate(frame_rate), self.num_frames)
