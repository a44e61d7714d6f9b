"""What each latent channel adds to a sound: mel spectrograms with and without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..evaluation.plots import spectrogram_power
from .codec import Codec

REPLACEMENT_NOISE = 0.1  # of a channel's std
FLOOR_DB = 70.0  # below the clip's loudest point, in which differences are not counted
MAX_CHANNELS = 64


@dataclass(frozen=True)
class ChannelResiduals:
    """`maps` `(channels shown, mel bands, frames)` in dB, of the 0-based `channels`, for one clip."""

    channels: tuple[int, ...]
    maps: np.ndarray
    clip_name: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Mean size of each channel's residual, for JSON."""
        return {
            "channels": list(self.channels),
            "mean_absolute_decibels": np.abs(self.maps).mean(axis=(1, 2)).tolist(),
            "clip": self.clip_name,
            "seconds": self.seconds,
        }


def channel_residuals(
    codec: Codec,
    latents: torch.Tensor,
    fill: torch.Tensor,
    std: torch.Tensor,
    *,
    clip_name: str = "",
    seed: int = 0,
    step: Callable[[], object] = lambda: None,
) -> ChannelResiduals:
    """Mel spectrogram in dB of latents `(1, channels, frames)` decoded, less that with one channel replaced.

    A channel c is replaced by `fill`_c + 0.1 · `std`_c · noise. Levels are cut off 70 dB below the clip's
    loudest point. Source: the residual maps of "Listens Like Mel: Boosting Latent Audio Diffusion with
    Channel Locality", appendix G, which are taken against the original: here the difference is that from the
    reconstruction, so that the error which all channels share does not cover the one of each. `step` is
    called after each decode.
    """
    shown = shown_channels(codec.latent_channels)
    generator = torch.Generator().manual_seed(seed)
    power = spectrogram_power(codec.decode(latents)[0], codec.sampling_rate)
    floor = power.max().clamp_min(1e-20) * 10 ** (-FLOOR_DB / 10)
    whole = _decibels(power, floor)
    maps = []
    for channel in shown:
        changed = latents.clone()
        noise = torch.randn(latents.shape[-1], generator=generator)
        changed[0, channel] = fill[channel] + REPLACEMENT_NOISE * std[channel] * noise
        decoded = codec.decode(changed)[0]
        maps.append((whole - _decibels(spectrogram_power(decoded, codec.sampling_rate), floor)).numpy())
        step()
    seconds = latents.shape[-1] / codec.frame_rate
    return ChannelResiduals(tuple(shown), np.stack(maps), clip_name, seconds)


def shown_channels(channels: int) -> Sequence[int]:
    """All channels, or 64 of them evenly spaced."""
    if channels <= MAX_CHANNELS:
        return range(channels)
    return np.linspace(0, channels - 1, MAX_CHANNELS).round().astype(int).tolist()


def _decibels(power: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    return 10 * torch.log10(torch.maximum(power, floor))
