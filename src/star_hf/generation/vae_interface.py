"""What the pipeline needs to know of an audio VAE, whatever its class calls it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

# In the order in which they count: where a VAE has a `codebook_dim`, its `latent_dim` is another width.
_LATENT_CHANNELS = ("decoder_input_channels", "latent_channels", "codebook_dim", "latent_dim")
_SAMPLING_RATE = ("sampling_rate", "sample_rate")
_HOP_LENGTH = ("hop_length", "downsampling_ratio")
_HOP_FACTORS = ("downsampling_ratios",)


@dataclass(frozen=True)
class LatentLayout:
    """`latent_channels`, `hop_length` in samples per latent frame, `sampling_rate` in Hz."""

    latent_channels: int
    hop_length: int
    sampling_rate: int

    def num_samples(self, seconds: float) -> int:
        return round(seconds * self.sampling_rate)

    def num_frames(self, seconds: float) -> int:
        return math.ceil(self.num_samples(seconds) / self.hop_length)


def latent_layout(vae: Any) -> LatentLayout:
    """Read the layout of the latents from the attributes or the configuration of a diffusers audio VAE.

    Raises:
        ValueError: it has none of the names that diffusers' audio VAEs use.
    """
    hop_length = _find(vae, _HOP_LENGTH)
    if hop_length is None:
        factors = _find(vae, _HOP_FACTORS)
        hop_length = None if factors is None else math.prod(factors)
    latent_channels = _find(vae, _LATENT_CHANNELS)
    sampling_rate = _find(vae, _SAMPLING_RATE)
    for value, names in (
        (latent_channels, _LATENT_CHANNELS),
        (hop_length, _HOP_LENGTH + _HOP_FACTORS),
        (sampling_rate, _SAMPLING_RATE),
    ):
        if value is None:
            raise ValueError(f"`vae` of class {type(vae).__name__} has none of: {', '.join(names)}")
    return LatentLayout(latent_channels, hop_length, sampling_rate)


class LatentMoments(NamedTuple):
    """Mean and standard deviation `(batch, latent_channels, frames)` of latents, and how they are drawn.

    `kind` is `"gaussian"`, each latent by itself, `"sigma"`, with one scale of the noise for each example as
    in a σ-VAE, or `"deterministic"`, where `std` is 0.
    """

    mean: torch.Tensor
    std: torch.Tensor
    kind: str


def encode_moments(vae: Any, waveform: torch.Tensor) -> LatentMoments:
    """Encode `(batch, audio_channels, samples)` with any audio VAE of diffusers or AutoencoderStar."""
    encoded = vae.encode(waveform)
    if "latents" in encoded:
        return LatentMoments(encoded.latents, torch.zeros_like(encoded.latents), "deterministic")
    posterior = encoded.latent_dist
    return LatentMoments(posterior.mean, posterior.std, getattr(posterior, "kind", "gaussian"))


@torch.no_grad()
def posterior_kind(vae: Any) -> str:
    """`LatentMoments.kind` of what `vae` encodes, found out on a hop of silence."""
    silence = torch.zeros(1, vae.config.audio_channels, latent_layout(vae).hop_length)
    return encode_moments(vae, silence.to(vae.device, vae.dtype)).kind


def check_vae_fits(layout: LatentLayout, config: Any) -> None:
    """Raise a ValueError if a model of this configuration was not made for latents of this layout."""
    if layout.latent_channels != config.latent_channels:
        raise ValueError(
            f"`vae` has {layout.latent_channels} latent channels, `model` has {config.latent_channels}"
        )
    if config.sampling_rate is not None and layout.sampling_rate != config.sampling_rate:
        raise ValueError(f"`vae` works at {layout.sampling_rate} Hz, `model` at {config.sampling_rate} Hz")
    frame_rate = layout.sampling_rate / layout.hop_length
    if config.frame_rate is not None and abs(frame_rate / config.frame_rate - 1) > 1e-3:
        raise ValueError(f"`vae` has {frame_rate:.2f} frames per second, `model` has {config.frame_rate:.2f}")


def latent_statistics(model: Any, vae: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation `(1, latent_channels, 1)` that latents are normalized with.

    The model's, because it was trained with them; else the VAE's; else 0 and 1.
    """
    for config in (model.config, vae.config):
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if mean is not None and std is not None:
            return tuple(
                torch.as_tensor(values, dtype=torch.float32, device=device).reshape(1, -1, 1)
                for values in (mean, std)
            )
    return torch.zeros(1, 1, 1, device=device), torch.ones(1, 1, 1, device=device)


def _find(vae: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        # A diffusers model that is asked for a value of its configuration warns: ask the configuration.
        value = vae.config[name] if name in vae.config else getattr(vae, name, None)
        if value is not None:
            return value
    return None
