"""The frozen autoencoder inside LAFA: made from its configuration, read through diffusers' interface."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional as F

from ..autoencoder import AutoencoderStar


@dataclass(frozen=True)
class InnerLayout:
    """Of an audio autoencoder: `latent_channels`, samples per frame, Hz, channels of the waveform."""

    latent_channels: int
    hop_length: int
    sampling_rate: int
    audio_channels: int


def inner_layout(vae: ModelMixin) -> InnerLayout:
    """Layout of an audio autoencoder, whose latent channels are counted on a moment of silence.

    Raises:
        ValueError: it has no `sampling_rate`, `audio_channels` or hop in its configuration.
    """
    config = vae.config
    hop_length = getattr(vae, "hop_length", None) or config.get("downsampling_ratio")
    if hop_length is None and config.get("downsampling_ratios"):
        hop_length = math.prod(config["downsampling_ratios"])
    known = {
        "sampling_rate": config.get("sampling_rate"),
        "audio_channels": config.get("audio_channels"),
        "hop_length": hop_length,
    }
    missing = [name for name, value in known.items() if value is None]
    if missing:
        raise ValueError(f"`vae` of class {type(vae).__name__} has no {', '.join(missing)}")
    silence = torch.zeros(1, known["audio_channels"], 4 * hop_length, dtype=vae.dtype, device=vae.device)
    with torch.no_grad():
        latents = vae.encode(silence).latent_dist.mode()
    return InnerLayout(latent_channels=latents.shape[1], **known)


def inner_config(vae: ModelMixin) -> dict[str, Any]:
    """The configuration of `vae` with its class's name, and without where it came from.

    Noise that an `AutoencoderStar` adds before it decodes is left out, the flow's
    latents err by themselves.
    """
    public = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    if public.get("latent_noise"):
        public["latent_noise"] = 0.0
    return {"_class_name": type(vae).__name__, **public}


class FrozenVAE(nn.Module):
    """An autoencoder that is never trained, between waveforms and latents of about unit variance.

    Args:
        config: from `inner_config`.
        hop_length: samples of a frame.
        latents_mean, latents_std: of the latents' channels.

    Raises:
        ValueError: the class is neither AutoencoderStar nor an autoencoder of diffusers.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        config: Mapping[str, Any],
        hop_length: int,
        latents_mean: Sequence[float],
        latents_std: Sequence[float],
    ):
        super().__init__()
        self.hop_length = hop_length
        self.vae = _make_vae(config)
        self.register_buffer("mean", torch.zeros(1, len(latents_mean), 1), persistent=False)
        self.register_buffer("std", torch.ones(1, len(latents_std), 1), persistent=False)
        self.normalize_by(latents_mean, latents_std)
        self.freeze()

    def normalize_by(self, latents_mean: Sequence[float], latents_std: Sequence[float]) -> None:
        self.mean.copy_(torch.tensor(latents_mean).reshape(1, -1, 1))
        self.std.copy_(torch.tensor(latents_std).reshape(1, -1, 1))

    def freeze(self) -> None:
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FrozenVAE":
        """Stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Normalized means of the posterior, `(batch, channels, ⌈samples / hop_length⌉)`.

        Args:
            x: `(batch, audio_channels, samples)`; zeros are appended up to a whole number of hops.
        """
        return (self.encode_raw(x) - self.mean) / self.std

    @torch.no_grad()
    def encode_raw(self, x: torch.Tensor) -> torch.Tensor:
        """Means of the posterior as they are."""
        return self.vae.encode(F.pad(x, (0, -x.shape[-1] % self.hop_length))).latent_dist.mode()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The waveform `(batch, audio_channels, frames · hop_length)` of normalized latents."""
        return self.vae.decode(latents * self.std + self.mean).sample


def channel_statistics(batches: Iterable[torch.Tensor]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all rows and frames, computed in float64.

    Args:
        batches: latents `(batch, channels, frames)`.

    Raises:
        ValueError: there are fewer than two frames.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for latents in batches:
        rows = latents.double().cpu().transpose(0, 1).flatten(1)  # (C, B · T)
        count += rows.shape[1]
        total, squares = total + rows.sum(dim=1), squares + rows.square().sum(dim=1)
    if count < 2:
        raise ValueError(f"`batches` must hold at least two frames, got {count}")
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=1e-12).sqrt()
    return mean.tolist(), std.tolist()


def _make_vae(config: Mapping[str, Any]) -> ModelMixin:
    name = str(config.get("_class_name"))
    vae_class = AutoencoderStar if name == AutoencoderStar.__name__ else getattr(diffusers, name, None)
    is_model = isinstance(vae_class, type) and issubclass(vae_class, ModelMixin)
    if not is_model or not hasattr(vae_class, "decode"):
        raise ValueError(
            "`inner_vae` must be the configuration of an AutoencoderStar or of an autoencoder of diffusers, "
            f"got _class_name {name!r}"
        )
    return vae_class(**{key: value for key, value in config.items() if not key.startswith("_")})
