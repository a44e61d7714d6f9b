"""Items of datasets that can be indexed: the same item for the same key, whoever asks, and whenever."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ..audio import AudioError, read_audio
from .bad_files import BadFile
from .items import (
    MAX_CONSECUTIVE_FAILURES,
    ItemReader,
    UnwantedClip,
    all_bad,
    noise_seed,
    read_item,
)
from .sources import audio_name, audio_source

MAX_PASSED_OVER = 1000


class ClipCache:
    """Decoded clips at the training rate, in half precision, so that a small dataset is decoded only once."""

    def __init__(self, sampling_rate: int) -> None:
        self.sampling_rate = sampling_rate
        self.clips: dict[int, torch.Tensor | BadFile] = {}

    def fill(self, dataset: Dataset, audio_column: str, source: str = "") -> None:
        for index in range(len(dataset)):
            value = dataset[index][audio_column]
            try:
                waveform, _ = read_audio(audio_source(value), sampling_rate=self.sampling_rate)
                self.clips[index] = waveform.half()
            except (AudioError, OSError) as error:
                self.clips[index] = BadFile.from_error(audio_name(value, index), error, source)

    def num_bytes(self) -> int:
        return sum(clip.nbytes for clip in self.clips.values() if isinstance(clip, torch.Tensor))


class ClipDataset(torch.utils.data.Dataset):
    """What `reader` makes of a dataset's rows; an item is asked for as `(epoch, index)` or `index`.

    An item is the reader's dict, `noise_seed`, an integer that follows from (seed, epoch, index), and
    `failures`, the files that could not be read on the way to it: the next readable clip stands in for a bad
    one, a random one for one that the settings pass over. Raises `TooManyBadFiles` after many bad ones in a
    row, and `ValueError` when all are passed over.

    Args:
        name: the dataset's name beside others, for messages.
        cache_at: decode every clip now, at this sampling rate in Hz, and keep it in memory.
    """

    def __init__(
        self,
        dataset: Dataset,
        reader: ItemReader,
        *,
        seed: int = 0,
        name: str = "",
        cache_at: int | None = None,
    ) -> None:
        self.dataset = dataset.select_columns(reader.columns)
        self.reader = reader
        self.seed = seed
        self.name = name
        self.cache: ClipCache | None = None
        if cache_at is not None:
            self.cache = ClipCache(cache_at)
            self.cache.fill(self.dataset, reader.audio_column, name)
            # a dataset without columns would have no rows, either
            if len(reader.columns) > 1:
                self.dataset = self.dataset.remove_columns(reader.audio_column)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        failures: list[BadFile] = []
        passed_over = 0
        candidate = index
        while True:
            try:
                item = self._read(candidate, np.random.default_rng([self.seed, epoch, candidate]))
            except UnwantedClip as reason:
                passed_over += 1
                if passed_over >= MAX_PASSED_OVER:
                    raise ValueError(f"{passed_over} clips in a row are passed over: {reason}") from None
                # not the next one: clips of one kind come in rows
                candidate = noise_seed(self.seed, epoch, index, passed_over) % len(self)
                continue
            if not isinstance(item, BadFile):
                return {**item, "noise_seed": noise_seed(self.seed, epoch, index), "failures": failures}
            failures.append(item)
            if len(failures) >= min(len(self), MAX_CONSECUTIVE_FAILURES):
                raise all_bad(failures)
            candidate = (candidate + 1) % len(self)

    def _read(self, index: int, random: np.random.Generator) -> dict[str, Any] | BadFile:
        if self.cache is None:
            return read_item(self.reader, self.dataset[index], random, index, self.name)
        clip = self.cache.clips[index]
        if isinstance(clip, BadFile):
            return clip
        others = self.dataset[index] if len(self.reader.columns) > 1 else {}
        return read_item(self.reader, {**others, self.reader.audio_column: clip}, random, index, self.name)


class MixedClips(torch.utils.data.Dataset):
    """Several `ClipDataset`s as one; an item is asked for as `(number of the dataset, epoch, index)`."""

    def __init__(self, datasets: Sequence[ClipDataset]) -> None:
        self.datasets = list(datasets)

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Any]:
        number, epoch, index = key
        return self.datasets[number][epoch, index]
