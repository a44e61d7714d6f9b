"""Clips to posteriors: spans, time-shifted versions, batches of equal length, and the encoder itself."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin

from encoding.arguments import EncodeArguments
from star_hf.autoencoder import AutoencoderStar
from star_hf.generation.vae_interface import encode_moments, latent_layout

T = TypeVar("T")
SEAM_IN_S = 0.005
DEFAULT_DELAY_IN_S = 0.5
PRECISION_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class PosteriorEncoder:
    """An autoencoder's encoder on a device, in tiles where it can do that exactly, and what it needs to know.

    Args:
        vae: an autoencoder of diffusers or AutoencoderStar, whose `config` has `audio_channels`.
        tile_seconds: longer clips are encoded in tiles; AutoencoderStar only, whose tiles change nothing.
        mixed_precision: "no", "bf16" or "fp16"; autocast of the forward pass.
    """

    def __init__(
        self,
        vae: ModelMixin,
        device: torch.device,
        mixed_precision: str = "no",
        tile_seconds: float | None = None,
    ) -> None:
        if "audio_channels" not in vae.config:
            raise ValueError(f"vae of class {type(vae).__name__} has no audio_channels in its configuration")
        self.vae, self.device = vae.to(device).eval(), device
        self.layout = latent_layout(vae)
        self.channels = vae.config.audio_channels
        self.dtype = PRECISION_DTYPES.get(mixed_precision)
        if isinstance(vae, AutoencoderStar):
            with self._autocast():  # weights are prepared for the precision that they are used in
                vae.fold_weight_norm()
            if tile_seconds is not None:
                vae.tile_frames = max(1, round(tile_seconds * vae.frame_rate))
                vae.enable_tiling()

    @torch.no_grad()
    def __call__(self, waveforms: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Mean and std `(latent_channels, frames)`, half precision on the CPU, of clips of equal shape."""
        batch = torch.stack(list(waveforms)).to(self.device)
        with self._autocast():
            moments = encode_moments(self.vae, batch)
        return list(zip(moments.mean.half().cpu(), moments.std.half().cpu(), strict=True))

    def _autocast(self) -> AbstractContextManager:
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)


class ClipVersions:
    """A clip as it is, or a random span of it, then the shifted versions that were asked for."""

    def __init__(self, arguments: EncodeArguments, sampling_rate: int, hop_length: int) -> None:
        self.arguments, self.rate, self.hop_length = arguments, sampling_rate, hop_length

    def __call__(self, waveform: torch.Tensor, key: Sequence[int]) -> Iterator[torch.Tensor]:
        """Versions of `waveform` `(channels, samples)`; all choices follow from the seed and `key`."""
        random = np.random.default_rng([self.arguments.seed, *key])
        for version in range(1 + self.arguments.num_shifts):
            clip = self._span(waveform, random)
            if version > 0:
                clip = self._vary(clip, random)
            # the VAEs of diffusers drop an incomplete last frame
            yield torch.nn.functional.pad(clip, (0, -clip.shape[-1] % self.hop_length))

    def _span(self, waveform: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        if self.arguments.max_seconds is None:
            return waveform
        wanted = max(1, round(self.arguments.max_seconds * self.rate))
        start = int(random.integers(max(0, waveform.shape[-1] - wanted) + 1))
        return waveform[:, start : start + wanted]

    def _vary(self, clip: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        samples, longest = clip.shape[-1], self.arguments.max_shift_seconds
        if self.arguments.shift == "circular":
            limit = samples if longest is None else min(samples, max(1, round(longest * self.rate)))
            clip = shift_circularly(clip, int(random.integers(limit)), round(SEAM_IN_S * self.rate))
        else:
            limit = max(1, round((longest or DEFAULT_DELAY_IN_S) * self.rate))
            offset = int(random.integers(min(samples, limit)))
            clip = torch.nn.functional.pad(clip, (offset, 0))[:, :samples]
        gain = 10.0 ** (random.uniform(-self.arguments.gain_db, self.arguments.gain_db) / 20.0)
        # a gain must not clip what was not clipped before
        return clip * min(gain, max(1.0, 1.0 / max(float(clip.abs().max()), 1e-9)))


def shift_circularly(clip: torch.Tensor, offset: int, seam: int) -> torch.Tensor:
    """Move the last `offset` samples to the front; where end and beginning meet, fade over `seam` samples."""
    samples = clip.shape[-1]
    seam = min(seam, offset, samples - offset)
    shifted = clip.roll(offset, dims=-1)
    if seam > 0:
        fade = torch.sin(torch.linspace(0, torch.pi / 2, seam + 1)[1:]).square()
        shifted[:, offset - seam : offset] *= fade.flip(0)
        shifted[:, offset : offset + seam] *= fade
    return shifted


class EqualLengthBatches(Generic[T]):
    """Gathers items of equal length, since a clip padded for another's sake would have other latents.

    What comes out follows from the order of what goes in. At most `8 · batch_size` items wait for their like;
    then those go that have waited longest.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.waiting: dict[int, list[T]] = {}

    def add(self, item: T, length: int) -> Iterator[list[T]]:
        """The batches that are ready now that `item` is there."""
        group = self.waiting.setdefault(length, [])
        group.append(item)
        if len(group) == self.batch_size:
            yield self.waiting.pop(length)
        elif sum(map(len, self.waiting.values())) > 8 * self.batch_size:
            yield self.waiting.pop(next(iter(self.waiting)))

    def rest(self) -> Iterator[list[T]]:
        while self.waiting:
            yield self.waiting.pop(next(iter(self.waiting)))
