"""One process's share of encoding: it takes units that nobody has taken and encodes them part by part."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Features

from encoding.arguments import EncodeArguments, file_name_of
from encoding.encoder import ClipVersions, EqualLengthBatches, PosteriorEncoder
from encoding.processes import Progress
from encoding.source import KeyedRow, StreamSource, TableSource, kept_columns
from encoding.work import PartRecord, WorkFolder
from star_hf.audio import AudioError, read_audio
from star_hf.data import BadFile, BadFiles, LatentShard, audio_name, audio_source

GPU_BATCH_SIZE = 8


class Clip(NamedTuple):
    key: tuple[int, ...]
    name: str
    waveform: torch.Tensor
    columns: dict[str, Any]


class Piece(NamedTuple):
    """A version of a clip on its way through the encoder; `position` is the clip's in its part."""

    position: int
    version: int
    waveform: torch.Tensor


@dataclass
class Worker:
    """Encodes what is left of a work folder, together with the other processes' workers.

    `after_clip` is called after every clip. What a part holds, bit for bit, follows from its rows and the
    batch size, not from the process that encodes it.
    """

    arguments: EncodeArguments
    source: TableSource | StreamSource
    columns: Features
    encoder: PosteriorEncoder
    work: WorkFolder
    progress: Progress
    after_clip: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        layout, gpu = self.encoder.layout, self.encoder.device.type != "cpu"
        self.versions = ClipVersions(self.arguments, layout.sampling_rate, layout.hop_length)
        self.batch_size = self.arguments.batch_size or (GPU_BATCH_SIZE if gpu else 1)
        self.root = str(Path(self.arguments.source).expanduser())
        self.bad_files = BadFiles(self.source.num_rows, self.arguments.max_bad_share, report=lambda _: None)
        self.judged: set[str] = set()

    def run(self) -> None:
        """Raises `TooManyBadFiles` when too many files of all that were read so far cannot be."""
        threads = self.arguments.num_workers
        with ThreadPoolExecutor(threads) if threads else nullcontext() as pool:
            for unit in range(self.source.num_units):
                if self.work.claim(unit):
                    self._encode_unit(unit, pool)
        self.judge_failures()

    def _encode_unit(self, unit: int, pool: Executor | None) -> None:
        part = self.source.finished_parts(unit, self.work.has_part)
        for rows in self.source.parts(unit, part):
            shard, record = self._encode_part(rows, pool)
            if record.clips == 0:
                break
            self.work.finish_part(self.source.part_name(unit, part), shard, record)
            part += 1
            self.judge_failures()
        self.work.finish_unit(unit, part)

    def _encode_part(self, rows: Iterator[KeyedRow], pool: Executor | None) -> tuple[LatentShard, PartRecord]:
        record, posteriors = PartRecord(), {}
        names, columns = [], []
        batches: EqualLengthBatches[Piece] = EqualLengthBatches(self.batch_size)

        def encode(ready: Iterable[list[Piece]]) -> None:
            for pieces in ready:
                results = self.encoder([piece.waveform for piece in pieces])
                for piece, posterior in zip(pieces, results, strict=True):
                    posteriors[piece.position, piece.version] = posterior

        ahead = 2 * self.arguments.num_workers
        for clip in self._waiting(read_ahead(rows, self._read, pool, ahead)):
            record.clips += 1
            if isinstance(clip, BadFile):
                print(f"skipping {clip.name}: {clip.reason}", flush=True)
                record.failures.append((clip.name, clip.reason))
            else:
                seconds = clip.waveform.shape[1] / self.encoder.layout.sampling_rate
                record.audio_seconds += seconds
                self.progress.audio_seconds += seconds
                for version, waveform in enumerate(self.versions(clip.waveform, clip.key)):
                    encode(batches.add(Piece(len(names), version, waveform), waveform.shape[1]))
                names.append(clip.name)
                columns.append(clip.columns)
            self.progress.clips += 1
            self.after_clip()
        encode(batches.rest())

        shard = LatentShard(self.encoder.layout.latent_channels, self.columns)
        for (position, version), (mean, std) in sorted(posteriors.items(), key=lambda item: item[0]):
            try:
                shard.add(mean, std, version, columns[position])
            except ValueError as error:
                raise ValueError(f"{names[position]}: {error}") from error
        record.num_rows, record.statistics = len(shard.rows), shard.statistics.to_dict()
        return shard, record

    def _read(self, keyed: KeyedRow) -> Clip | BadFile:
        key, row = keyed
        value = row[self.arguments.audio_column]
        name = audio_name(value, row.get("__key__") or key[-1])
        try:
            waveform, _ = read_audio(
                audio_source(value), self.encoder.layout.sampling_rate, self.encoder.channels
            )
        except (AudioError, OSError) as error:
            reason = BadFile.from_error(name, error).reason
            return BadFile(file_name_of(name, self.root), reason)
        return Clip(key, name, waveform, kept_columns(row, self.arguments))

    def _waiting(self, clips: Iterator[Clip | BadFile]) -> Iterator[Clip | BadFile]:
        """The same clips, while the time that they are waited for is added up."""
        while True:
            started = time.monotonic()
            clip = next(clips, None)
            self.progress.waited += time.monotonic() - started
            if clip is None:
                return
            yield clip

    def judge_failures(self) -> None:
        """Count the unreadable files of all parts that are finished, whichever process made them."""
        for name in self.work.part_names():
            if name not in self.judged:
                self.judged.add(name)
                record = self.work.record(name)
                self.bad_files.add(record.failures, seen=record.clips)


def read_ahead(
    items: Iterable[Any], function: Callable[[Any], Any], pool: Executor | None, ahead: int
) -> Iterator[Any]:
    """`function` of each item in turn, while the pool works on up to `ahead` items that come after."""
    if pool is None:
        yield from map(function, items)
        return
    waiting: deque[Future] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
