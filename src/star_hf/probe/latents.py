"""The latents of all clips: encoded once, drawn from their posteriors and standardized for every step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..audit import Codec
from ..data import LatentStatistics
from .clips import ClipPart, ProbeClips

#: Bytes of posteriors that stay in memory, in half precision; those of further clips wait on disk.
MEMORY_LIMIT = 2 << 30
#: A channel whose deviation is below this share of the largest one is taken as constant.
CONSTANT_SHARE = 1e-4


@dataclass(frozen=True)
class ClipLatents:
    """Standardized posterior of a clip: `mean` and `std` `(frames, channels)`, `kind` as in LatentMoments."""

    mean: torch.Tensor
    std: torch.Tensor
    kind: str

    def draw(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """A latent, and the deviation of its noise (of a σ-VAE given the scale drawn for the clip)."""
        # drawn whatever the kind: the numbers that follow are the same for every autoencoder
        scale = torch.randn((), generator=generator).abs()
        noise = torch.randn(self.mean.shape, generator=generator)
        std = self.std * scale if self.kind == "sigma" else self.std
        return self.mean + std * noise, std


class PosteriorStore:
    """Posteriors `(2, channels, frames)` in half precision: `limit` bytes in memory, more in `folder`."""

    def __init__(self, folder: Path, limit: int = MEMORY_LIMIT) -> None:
        self.folder, self.limit, self.bytes = folder, limit, 0
        self.items: list[np.ndarray | Path] = []

    def append(self, posterior: torch.Tensor) -> None:
        """Raises `ValueError` for values that are not finite or beyond half precision."""
        half = posterior.half()
        if not bool(torch.isfinite(half).all()):
            raise ValueError(
                f"latents of up to {float(posterior.abs().max()):.3g} are not finite in half precision"
            )
        array = half.numpy()
        self.bytes += array.nbytes
        if self.bytes <= self.limit:
            self.items.append(array)
            return
        path = self.folder / f"{len(self.items)}.npy"
        np.save(path, array)
        self.items.append(path)

    def __getitem__(self, index: int) -> torch.Tensor:
        item = self.items[index]
        array = np.load(item, mmap_mode="r") if isinstance(item, Path) else item
        return torch.from_numpy(array.astype(np.float32))


@dataclass
class EncodedClips:
    """The training clips' posteriors, then the held-out clips', in those channels that vary.

    Attributes:
        kind: "gaussian", "sigma" or "deterministic".
        frame_rate: latent frames per second.
        mean, std: of all channels over the training clips, `(latent_channels,)`.
        varying: indices of the channels that vary; the others are replaced by their mean.
        num_frames, num_samples: of each clip.
        num_training: clips for training.
        silence: standardized latents of silence, as long as the longest clip, `(frames, varying channels)`.
    """

    kind: str
    frame_rate: float
    mean: torch.Tensor
    std: torch.Tensor
    varying: torch.Tensor
    num_frames: list[int]
    num_samples: list[int]
    num_training: int
    silence: torch.Tensor
    offset: torch.Tensor
    store: PosteriorStore

    @property
    def channels(self) -> int:
        return len(self.varying)

    def __getitem__(self, index: int) -> ClipLatents:
        mean, std = self.store[index]
        standardized = self.standardized(mean + self.offset[:, None])
        return ClipLatents(standardized, (std[self.varying].T / self.std[self.varying]), self.kind)

    def standardized(self, latents: torch.Tensor) -> torch.Tensor:
        """`(frames, varying channels)` of an autoencoder's latents `(latent_channels, frames)`."""
        return (latents[self.varying].T - self.mean[self.varying]) / self.std[self.varying]

    def for_decoder(self, latents: torch.Tensor) -> torch.Tensor:
        """The autoencoder's latents `(1, latent_channels, frames)` of standardized ones."""
        full = self.mean[:, None].repeat(1, len(latents))
        full[self.varying] += self.std[self.varying, None] * latents.T
        return full[None]

    def posterior_mean(self, index: int) -> torch.Tensor:
        """`(1, latent_channels, frames)` as the autoencoder gave it, constant channels included."""
        return (self.store[index][0] + self.offset[:, None])[None]


def encode_clips(
    codec: Codec,
    clips: ProbeClips,
    folder: Path,
    step: Callable[[], object] = lambda: None,
    memory_limit: int = MEMORY_LIMIT,
) -> EncodedClips:
    """Encode every clip; what does not fit into `memory_limit` bytes is written below `folder`.

    Raises `ValueError` for latents that are not finite, of which no channel varies, or of another number of
    channels than the autoencoder says.
    """
    store = PosteriorStore(folder, memory_limit)
    statistics = LatentStatistics(codec.latent_channels)
    offset: torch.Tensor | None = None
    frames, samples, kind = [], [], ""
    for part in (clips.training, clips.held_out):
        for index in range(len(part)):
            mean, std, kind, length = _encode(codec, part, index)
            # half precision is for what changes: a channel may lie far from 0
            offset = mean.mean(dim=1) if offset is None else offset
            try:
                store.append(torch.stack([mean - offset[:, None], std]))
            except ValueError as error:
                raise ValueError(f"{codec.class_name}: {part.name(index)}: {error}.") from error
            if part is clips.training:
                statistics.update(*store[len(frames)])
            frames.append(mean.shape[1])
            samples.append(length)
            step()
    deviation = statistics.std()
    varying = (deviation > CONSTANT_SHARE * deviation.max()).nonzero()[:, 0]
    if not len(varying):
        raise ValueError(f"{codec.class_name}: the latents are the same for all of {clips.name!r}.")
    mean = (statistics.mean() + offset).float()
    encoded = EncodedClips(
        kind=kind,
        frame_rate=codec.frame_rate,
        mean=mean,
        std=deviation.float(),
        varying=varying,
        num_frames=frames,
        num_samples=samples,
        num_training=len(clips.training),
        silence=torch.empty(0),
        offset=offset,
        store=store,
    )
    silence = codec.encode(torch.zeros(1, codec.audio_channels, max(samples))).mean[0]
    encoded.silence = encoded.standardized(silence)[: max(frames)]
    return encoded


def _encode(codec: Codec, part: ClipPart, index: int) -> tuple[torch.Tensor, torch.Tensor, str, int]:
    waveform = part.read(index, codec.sampling_rate, codec.audio_channels)
    moments = codec.encode(waveform[None])
    if moments.mean.shape[1] != codec.latent_channels:
        raise ValueError(
            f"{codec.class_name}: gives {moments.mean.shape[1]} latent channels, its configuration says "
            f"{codec.latent_channels}."
        )
    return moments.mean[0], moments.std[0], moments.kind, waveform.shape[1]


def temporary_folder(folder: Path) -> tempfile.TemporaryDirectory:
    """A place in `folder` for posteriors that do not fit into memory."""
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".latents-", dir=folder)
