"""What the decoder makes of latents that were changed: channels left out, noise added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..audio import resample
from ..evaluation.reconstruction import mel_distance, stft_distance
from .codec import Codec

NOISE_LEVELS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
SHORTEST = 1025  # samples at the metrics' rate: their longest FFT must fit
DISTANCES = ("stft", "mel")


def channel_grid(channels: int, points: int = 9) -> list[int]:
    """Numbers of channels from 1 to all, about evenly spaced in their logarithm, and all but one."""
    exponents = torch.linspace(0, 1, max(2, points), dtype=torch.float64)
    counts = {round(float(channels) ** exponent) for exponent in exponents.tolist()}
    return sorted(counts | {max(1, channels - 1)})


def keep_channels(
    latents: torch.Tensor, count: int, fill: torch.Tensor, *, from_tail: bool = False
) -> torch.Tensor:
    """The first (or last) `count` channels of latents `(batch, channels, frames)`, the others at `fill`."""
    channels = latents.shape[1]
    index = torch.arange(channels)
    kept = index >= channels - count if from_tail else index < count
    return torch.where(kept[:, None], latents, fill.to(latents.dtype)[:, None])


@dataclass
class DistanceCurve:
    """Mean distances over clips for each value of `x`; `stft` and `mel` collect one list for each clip."""

    x: Sequence[float]
    clips: list[list[tuple[float, float]]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Means over the clips, and how far they are apart (standard deviation), for JSON."""
        values = torch.tensor(self.clips, dtype=torch.float64)  # (clips, x, 2)
        means, spread = values.mean(dim=0), values.std(dim=0, correction=0)
        report: dict[str, Any] = {"x": list(self.x)}
        for number, name in enumerate(DISTANCES):
            report[name] = means[:, number].tolist()
            report[f"{name}_std"] = spread[:, number].tolist()
        return report


class DecoderCurves:
    """Truncation from head and tail, and latent noise, measured on one clip after another.

    Distances are `evaluation.stft_distance` and `mel_distance` of the decoded clip from the original, both at
    `metric_rate` Hz.

    Args:
        codec: decodes.
        fill: `(channels,)`, what stands for a channel that is left out.
        std: `(channels,)`, the unit of the noise.
        seed: of the noise, the same numbers at each level.
    """

    def __init__(
        self, codec: Codec, fill: torch.Tensor, std: torch.Tensor, metric_rate: int, seed: int = 0
    ) -> None:
        self.codec, self.fill, self.std, self.metric_rate = codec, fill, std, metric_rate
        self.generator = torch.Generator().manual_seed(seed)
        grid = channel_grid(codec.latent_channels)
        self.head, self.tail = DistanceCurve(grid), DistanceCurve(grid)
        self.noise = DistanceCurve(NOISE_LEVELS)

    @property
    def decodes_per_clip(self) -> int:
        """How often `update` calls the decoder; keeping all channels is one decode for three curves."""
        return 2 * (len(self.head.x) - 1) + len(NOISE_LEVELS)

    def update(
        self, waveform: torch.Tensor, latents: torch.Tensor, step: Callable[[], object] = lambda: None
    ) -> None:
        """Add a clip `(channels, samples)`, latents `(1, channels, frames)`; `step` after each decode."""

        def distances(changed: torch.Tensor) -> tuple[float, float]:
            decoded = self.codec.decode(changed)[0]
            step()
            return self._distances(decoded, waveform)

        whole = distances(latents)
        for curve, from_tail in ((self.head, False), (self.tail, True)):
            parts = [
                distances(keep_channels(latents, int(count), self.fill, from_tail=from_tail))
                for count in curve.x[:-1]
            ]
            curve.clips.append([*parts, whole])
        normal = torch.randn(latents.shape, generator=self.generator)
        unit = self.std.to(latents.dtype)[:, None] * normal
        noisy = [distances(latents + level * unit) for level in NOISE_LEVELS[1:]]
        self.noise.clips.append([whole, *noisy])

    def _distances(self, decoded: torch.Tensor, waveform: torch.Tensor) -> tuple[float, float]:
        samples = min(decoded.shape[-1], waveform.shape[-1])
        pair = [
            resample(audio[:, :samples].contiguous(), self.codec.sampling_rate, self.metric_rate)[None]
            for audio in (decoded, waveform)
        ]
        return stft_distance(*pair).item(), mel_distance(*pair, self.metric_rate).item()

    def to_dict(self) -> dict[str, Any]:
        """The three curves, for JSON."""
        return {
            "truncation_head": self.head.to_dict(),
            "truncation_tail": self.tail.to_dict(),
            "noise": self.noise.to_dict(),
        }
