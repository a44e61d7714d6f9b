"""The audio side of a recipe: which dataset, which clips are held out, and batches of random crops."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from arguments import group, option
from star_hf.audio import AudioError, read_audio
from star_hf.data import (
    AudioCrops,
    BadFiles,
    CropSettings,
    EndlessShuffle,
    StreamedAudioCrops,
    audio_source,
    load_audio_dataset,
    split_for_validation,
)


@dataclass
class AudioDataArguments:
    source: str = option("", "folder of audio files or Parquet, or the name of a Hub dataset")
    split: str = option("train", "split of the dataset")
    config_name: str | None = option(None, "configuration of a Hub dataset")
    audio_column: str = option("audio", "column with the audio")
    streaming: bool = option(False, "read a Hub dataset while training instead of downloading it first")
    shuffle_buffer: int = option(1000, "streaming: rows to shuffle within")
    batch_size: int = option(16, "crops per batch and process")
    num_workers: int = option(0, "processes that read audio; 0 reads in the training process")
    cache_audio: bool = option(False, "decode every clip once and keep it in memory, for small datasets")
    max_bad_share: float = option(0.05, "the run stops when more than this share of the files cannot be read")
    validation_fraction: float = option(0.05, "share held out")
    validation_key: str | None = option(
        None, "column whose equal values are held out together; default: the audio"
    )
    validation_clips: int = option(32, "held-out clips to measure, at most")
    validation_seconds: float = option(5.0, "of each held-out clip, at most")
    crops: CropSettings = group(CropSettings)


class CropLoader:
    """Training batches and held-out clips for a model of a given rate and number of channels."""

    def __init__(
        self, arguments: AudioDataArguments, sampling_rate: int, channels: int, seed: int, say
    ) -> None:
        if not arguments.source:
            raise ValueError("data.source is missing: a folder or the name of a dataset")
        if arguments.streaming and (arguments.validation_fraction > 0 or arguments.cache_audio):
            raise ValueError("data.streaming needs data.validation_fraction 0 and data.cache_audio false")
        self.arguments, self.sampling_rate, self.channels, self.seed = (
            arguments,
            sampling_rate,
            channels,
            seed,
        )
        dataset = load_audio_dataset(
            arguments.source,
            arguments.split,
            audio_column=arguments.audio_column,
            config_name=arguments.config_name,
            streaming=arguments.streaming,
        )
        self.validation: Dataset | None = None
        if isinstance(dataset, Dataset):
            dataset, self.validation = split_for_validation(
                dataset,
                arguments.validation_fraction,
                key_column=arguments.validation_key or arguments.audio_column,
            )
        settings: dict[str, Any] = {
            "sampling_rate": sampling_rate,
            "channels": channels,
            "audio_column": arguments.audio_column,
            "seed": seed,
        }
        if isinstance(dataset, Dataset):
            self.crops = AudioCrops(dataset, arguments.crops, cache=arguments.cache_audio, **settings)
            held_out = len(self.validation) if self.validation is not None else 0
            cached = (
                f", {self.crops.cache.num_bytes() / 2**20:.0f} MiB cached" if arguments.cache_audio else ""
            )
            say(f"{len(dataset)} clips to train on, {held_out} held out{cached}")
            total = len(dataset)
        else:
            buffer = arguments.shuffle_buffer
            self.crops = StreamedAudioCrops(dataset, arguments.crops, shuffle_buffer=buffer, **settings)
            say(f"streaming {arguments.source}")
            total = None
        self.bad_files = BadFiles(total, arguments.max_bad_share, report=say)

    def batches(self, start: int, rank: int, world_size: int) -> Iterable[dict[str, Any]]:
        """Endless batches `waveform` (batch, channels, samples), from the `start`-th on."""
        batch_size = self.arguments.batch_size
        sampler = None
        if isinstance(self.crops, AudioCrops):
            first = start * batch_size * world_size
            sampler = EndlessShuffle(len(self.crops), self.seed, first, rank, world_size)
        return DataLoader(
            self.crops,
            batch_size=batch_size,
            sampler=sampler,
            collate_fn=collate_crops,
            num_workers=self.arguments.num_workers,
            # without its own a loader draws from the global generator, and a resumed run would diverge
            generator=torch.Generator().manual_seed(self.seed),
            pin_memory=torch.cuda.is_available(),
        )

    def held_out(self) -> Iterable[torch.Tensor]:
        """The held-out clips one by one, `(1, channels, samples)`."""
        if self.validation is None:
            return
        count = min(len(self.validation), self.arguments.validation_clips)
        for row in self.validation.shuffle(seed=0).select(range(count)):
            try:
                waveform, _ = read_audio(
                    audio_source(row[self.arguments.audio_column]),
                    sampling_rate=self.sampling_rate,
                    channels=self.channels,
                    duration_in_s=self.arguments.validation_seconds,
                )
            except (AudioError, OSError):
                continue  # the training side reports unreadable files
            yield waveform[None]


def collate_crops(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "waveform": torch.stack([item["waveform"] for item in items]),
        "failures": [failure for item in items for failure in item["failures"]],
    }
