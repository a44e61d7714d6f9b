"""Random crops of audio clips: only the crop is read, and every choice follows from (seed, epoch, index)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset

from ..audio import AudioError, audio_info, convert_channels, read_audio
from .bad_files import BadFile, TooManyBadFiles
from .sources import audio_name, audio_source

MAX_CONSECUTIVE_FAILURES = 32


@dataclass
class CropSettings:
    """How a clip becomes a training crop; gains are drawn uniformly from ±the given number of dB."""

    num_samples: int = field(default=65536, metadata={"help": "length of a crop in samples"})
    silence_db: float | None = field(
        default=None, metadata={"help": "draw again below this RMS (dB of full scale)"}
    )
    silence_retries: int = field(default=8, metadata={"help": "how often to draw again; the loudest is kept"})
    gain_db: float = field(default=0.0, metadata={"help": "random gain of the whole crop, ± dB"})
    channel_gain_db: float = field(
        default=0.0, metadata={"help": "random gain per channel, ± dB: pans mono sources"}
    )
    swap_channels: bool = field(default=False, metadata={"help": "reverse the channels of every second crop"})

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"crops num_samples must be at least 1, got {self.num_samples}")
        if self.silence_retries < 0:
            raise ValueError(f"crops silence_retries must be at least 0, got {self.silence_retries}")
        for name in ("gain_db", "channel_gain_db"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"crops {name} must be finite and at least 0, got {getattr(self, name)}")


class ClipCache:
    """Decoded clips at the training rate, in half precision, so that a small dataset is decoded only once."""

    def __init__(self, sampling_rate: int) -> None:
        self.sampling_rate = sampling_rate
        self.clips: dict[int, torch.Tensor | BadFile] = {}

    def fill(self, dataset: Dataset, audio_column: str) -> None:
        for index in range(len(dataset)):
            value = dataset[index][audio_column]
            try:
                waveform, _ = read_audio(audio_source(value), sampling_rate=self.sampling_rate)
                self.clips[index] = waveform.half()
            except (AudioError, OSError) as error:
                self.clips[index] = BadFile.from_error(audio_name(value, index), error)

    def num_bytes(self) -> int:
        return sum(clip.nbytes for clip in self.clips.values() if isinstance(clip, torch.Tensor))


class CropReader:
    """Reads one random crop, `(channels, settings.num_samples)` float32, of a clip at `sampling_rate`."""

    def __init__(self, settings: CropSettings, sampling_rate: int, channels: int) -> None:
        self.settings = settings
        self.sampling_rate = sampling_rate
        self.channels = channels

    def read(self, clip: str | bytes | torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """Crop a path, encoded bytes, or a decoded clip `(channels, samples)`; zeros follow a short clip."""
        if isinstance(clip, torch.Tensor):
            length = clip.shape[-1]
        else:
            info = audio_info(clip)
            length = info.num_frames * self.sampling_rate // info.sampling_rate
        best, best_level = None, -math.inf
        for _ in range(1 + (self.settings.silence_retries if self.settings.silence_db is not None else 0)):
            crop = self._span(clip, int(random.integers(max(0, length - self.settings.num_samples) + 1)))
            if self.settings.silence_db is None:
                best = crop
                break
            level = 10.0 * math.log10(float(crop.square().mean()) + 1e-20)
            if best is None or level > best_level:
                best, best_level = crop, level
            if level >= self.settings.silence_db:
                break
        return self._augment(convert_channels(best, self.channels), random)

    def _span(self, clip: str | bytes | torch.Tensor, start: int) -> torch.Tensor:
        wanted = self.settings.num_samples
        if isinstance(clip, torch.Tensor):
            crop = clip[:, start : start + wanted].float()
        else:
            crop, _ = read_audio(
                clip,
                sampling_rate=self.sampling_rate,
                offset_in_s=start / self.sampling_rate,
                duration_in_s=wanted / self.sampling_rate,
            )
            crop = crop[:, :wanted]
        return torch.nn.functional.pad(crop, (0, wanted - crop.shape[-1]))

    def _augment(self, crop: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        settings = self.settings
        gains = random.uniform(-settings.gain_db, settings.gain_db)
        gains = gains + random.uniform(
            -settings.channel_gain_db, settings.channel_gain_db, size=self.channels
        )
        if settings.gain_db or settings.channel_gain_db:
            crop = crop * torch.from_numpy(10.0 ** (gains / 20.0)).float()[:, None]
            crop = crop / crop.abs().max().clamp(min=1.0)  # a gain must not push the target out of [-1, 1]
        if settings.swap_channels and random.random() < 0.5:
            crop = crop.flip(0)
        return crop.contiguous()


class AudioCrops(torch.utils.data.Dataset):
    """Random crops of a dataset that fits on disk; an item is asked for as `(epoch, index)` or `index`.

    An item is a dict: `waveform` (channels, num_samples) and `failures`, the files that could not be read on
    the way to it (the next readable clip stands in for a bad one).
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: CropSettings,
        *,
        sampling_rate: int,
        channels: int,
        audio_column: str = "audio",
        seed: int = 0,
        cache: bool = False,
    ) -> None:
        self.dataset = dataset.select_columns([audio_column])
        self.reader = CropReader(settings, sampling_rate, channels)
        self.audio_column = audio_column
        self.seed = seed
        self.cache: ClipCache | None = None
        if cache:
            self.cache = ClipCache(sampling_rate)
            self.cache.fill(self.dataset, audio_column)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        failures: list[BadFile] = []
        for step in range(min(len(self), MAX_CONSECUTIVE_FAILURES)):
            candidate = (index + step) % len(self)
            crop = self._crop(candidate, np.random.default_rng([self.seed, epoch, candidate]))
            if isinstance(crop, BadFile):
                failures.append(crop)
            else:
                return {"waveform": crop, "failures": failures}
        raise _all_bad(failures)

    def _crop(self, index: int, random: np.random.Generator) -> torch.Tensor | BadFile:
        value = self.dataset[index][self.audio_column]
        name = audio_name(value, index)
        if self.cache is None:
            return _read_or_fail(self.reader, audio_source(value), name, random)
        clip = self.cache.clips[index]
        return clip if isinstance(clip, BadFile) else _read_or_fail(self.reader, clip, name, random)


class StreamedAudioCrops(torch.utils.data.IterableDataset):
    """Endless random crops of a streamed dataset; each pass is shuffled anew within `shuffle_buffer` rows."""

    def __init__(
        self,
        dataset: IterableDataset,
        settings: CropSettings,
        *,
        sampling_rate: int,
        channels: int,
        audio_column: str = "audio",
        seed: int = 0,
        shuffle_buffer: int = 1000,
    ) -> None:
        self.dataset = dataset.select_columns([audio_column]).shuffle(seed=seed, buffer_size=shuffle_buffer)
        self.reader = CropReader(settings, sampling_rate, channels)
        self.audio_column = audio_column
        self.seed = seed

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = torch.utils.data.get_worker_info()
        worker_id = worker.id if worker is not None else 0
        failures: list[BadFile] = []
        epoch = 0
        while True:
            self.dataset.set_epoch(epoch)
            rows = 0
            for row in self.dataset:
                random = np.random.default_rng([self.seed, epoch, worker_id, rows])
                rows += 1
                value = row[self.audio_column]
                name = audio_name(value, f"{rows} of pass {epoch}")
                crop = _read_or_fail(self.reader, audio_source(value), name, random)
                if isinstance(crop, BadFile):
                    failures.append(crop)
                    if len(failures) >= MAX_CONSECUTIVE_FAILURES:
                        raise _all_bad(failures)
                else:
                    yield {"waveform": crop, "failures": failures}
                    failures = []
            if rows == 0:
                return  # this worker has no shard
            epoch += 1


def _read_or_fail(
    reader: CropReader, clip: str | bytes | torch.Tensor, name: str, random: np.random.Generator
) -> torch.Tensor | BadFile:
    try:
        return reader.read(clip, random)
    except (AudioError, OSError) as error:
        return BadFile.from_error(name, error)


def _all_bad(failures: list[BadFile]) -> TooManyBadFiles:
    listing = "\n".join(f"  {name}: {reason}" for name, reason in failures)
    return TooManyBadFiles(f"{len(failures)} files in a row cannot be read:\n{listing}")
