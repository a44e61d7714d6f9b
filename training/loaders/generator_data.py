"""What a generator's data are told, and what they give: latents of one autoencoder, with captions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn

from engine.arguments import group, option
from loaders.audio_data import AudioDataArguments
from star_hf.data import BadFiles
from star_hf.generation.vae_interface import latent_layout

Tokenize = Callable[[list[str]], tuple[torch.Tensor, torch.Tensor]]
Statistics = tuple[list[float], list[float]]


@dataclass
class LatentDataArguments:
    source: str = option("", "folder that encode_latents.py wrote; leave it empty to train from data.audio")
    text_column: str = option("text", "column with the caption, or a list of captions to choose from")
    templates: list[str] = option(
        [], 'texts over the latents\' columns, such as "the sound of {label}", instead of text_column'
    )
    share_captions_by: str | None = option(None, "rows with equal values in this column share their captions")
    captions: dict[str, list[str]] = option({}, "further captions by value of share_captions_by")
    caption_dropout: float = option(0.1, "share of clips with the empty prompt, for guidance")
    crop_frames: int | None = option(None, "longer clips give a random crop of this many frames")
    batch_size: int = option(32, "clips per batch and process")
    bucket_window: int = option(
        64, "batches (of all processes) whose clips are sorted by length together; 0 for no sorting"
    )
    num_workers: int = option(0, "processes that read latents; 0 reads in the training process")
    validation_fraction: float = option(0.05, "share held out; 0 for none")
    validation_key: str | None = option(None, "column whose equal values are held out together")
    validation_clips: int = option(1000, "held-out clips to measure, at most")
    audio: AudioDataArguments = group(AudioDataArguments)
    statistics_clips: int = option(
        256, "audio: clips to measure the latents' mean and std over, if vae's configuration has none"
    )

    def check(self) -> None:
        """Raise `ValueError` for values that nothing can be trained from."""
        from_audio = bool(self.audio.source or self.audio.sources)
        if bool(self.source) == from_audio:
            raise ValueError(
                "exactly one of data.source (encoded latents) and data.audio.source (audio) must be given"
            )
        for name in ("batch_size", "validation_clips", "statistics_clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("bucket_window", "num_workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"data.{name} must be at least 0, got {getattr(self, name)}")


class GeneratorData:
    """Batches of captions and normalized latents `(batch, frames, latent_channels)` of one autoencoder.

    A batch has `input_ids`, `attention_mask`, `noise_seed` and the lists `num_frames` and `text`; its latents
    are asked for by `latents`. `statistics` are the mean and standard deviation per channel that the latents
    are normalized with.
    """

    statistics: Statistics
    bad_files: BadFiles
    batch_size: int

    def __init__(self, vae: nn.Module) -> None:
        self.vae = vae
        self.layout = latent_layout(vae)
        self.frame_rate = self.layout.sampling_rate / self.layout.hop_length

    def batches(
        self, tokenize: Tokenize, start: int, rank: int, world_size: int, position: Any = None
    ) -> Iterable[dict[str, Any]]:
        """Endless batches, after the `start` samples that all processes have taken together."""
        raise NotImplementedError

    def held_out(self, tokenize: Tokenize) -> Iterable[dict[str, Any]]:
        """Batches of the held-out clips, always the same ones, with the same `noise_seed`."""
        raise NotImplementedError

    def latents(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalized latents of a batch and the mask `(batch, frames)` of its real frames."""
        raise NotImplementedError

    def captions(self) -> Iterable[str]:
        """Every caption of the training clips."""
        raise NotImplementedError

    def held_out_captions(self) -> Iterable[str]:
        """Those of the held-out clips."""
        raise NotImplementedError

    def example_captions(self, count: int) -> list[str]:
        """A few different captions, of held-out clips if there are any."""
        for texts in (self.held_out_captions(), self.captions()):
            found = list(islice(dict.fromkeys(text for text in texts if text), count))
            if found:
                return found
        return []
