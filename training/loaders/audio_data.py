"""Batches of crops or of captioned clips from one or several datasets, and the clips that are held out."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from loaders.audio_arguments import AudioDataArguments, SourceArguments
from star_hf.audio import AudioError
from star_hf.data import (
    BadFiles,
    CaptionedClipReader,
    CaptionTemplates,
    ChannelPolicy,
    ClipDataset,
    ClipStream,
    CropReader,
    MixedClips,
    MixedStream,
    MixtureShuffle,
    ShuffledRows,
    TrainingSource,
    UnwantedClip,
    audio_source,
    clip_info,
    collate_clips,
    collate_crops,
    load_audio_dataset,
    make_loader,
    noise_seed,
    read_span,
    source_seed,
    split_by_node,
    stream_batches,
)

#: The distances of validation take spectra over up to this many samples.
SHORTEST_CLIP = 2048


class AudioLoader:
    """Training batches and held-out clips of one or several datasets; a subclass says what a clip becomes."""

    with_captions = False
    # a function of a module: where workers are not forked they get it by its name
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __init__(
        self, arguments: AudioDataArguments, sampling_rate: int, channels: int, seed: int, say: Any
    ) -> None:
        arguments.check()
        self.arguments, self.sampling_rate, self.channels = arguments, sampling_rate, channels
        self.seed, self.say = seed, say
        self.sources: list[TrainingSource] = []
        self.readers: list[Any] = []
        self.identities: dict[str, list[Any]] = {}
        for name, source in arguments.all_sources().items():
            self._open(name, source)
        self.weights = [source.weight for source in self.sources]
        self.clips = None if arguments.streaming else self._index()
        self._held_out: list[tuple[Any, dict[str, Any]]] | None = None
        totals = None
        if self.clips is not None:
            totals = {dataset.name: len(dataset) for dataset in self.clips.datasets}
        self.bad_files = BadFiles(totals, arguments.max_bad_share, report=say)

    def reader(self, source: SourceArguments, captions: CaptionTemplates | None) -> Any:
        """An `ItemReader` for one dataset."""
        raise NotImplementedError

    def batches(
        self, start: int, rank: int, world_size: int, position: Any = None
    ) -> Iterable[dict[str, Any]]:
        """Endless batches of this process.

        `start` is the number of samples that all processes together have taken before. A stream goes on after
        the last batch's `position` instead, if processes, workers and datasets are the same as then.
        """
        if self.clips is None:
            return self._stream(start, rank, world_size, position)
        lengths = [len(dataset) for dataset in self.clips.datasets]
        sampler = MixtureShuffle(lengths, self.weights, self.seed, start, rank, world_size)
        return self._loader(self.clips, self.arguments.num_workers, sampler)

    def held_out_rows(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Held-out rows and their readers, as many of each dataset; those of a stream are kept."""
        if self._held_out is not None:
            yield from self._held_out
            return
        kept = []
        each, more = divmod(self.arguments.validation_clips, len(self.sources))
        for number, (source, reader) in enumerate(zip(self.sources, self.readers, strict=True)):
            for row in source.held_out_rows(each + (number < more)):
                if self.clips is None:
                    kept.append((reader, row))
                yield reader, row
        if self.clips is None:
            self._held_out = kept
            if not kept and self.arguments.validation_fraction > 0:
                self.say(
                    "nothing is held out: no key of the stream falls into the share "
                    f"{self.arguments.validation_fraction}; raise data.validation_fraction"
                )

    def whole_clip(self, reader: Any, row: dict[str, Any], seconds: float | None) -> torch.Tensor | None:
        """The first `seconds` of a row's clip, `(channels, samples)`; `None` where training skips it."""
        try:
            clip = audio_source(row[reader.audio_column])
            info = clip_info(clip, self.sampling_rate)
            policy = ChannelPolicy.draw(
                self.arguments.crops.channels, info.channels, self.channels, np.random.default_rng(0)
            )
            samples = info.num_frames if seconds is None else round(seconds * self.sampling_rate)
            return policy(read_span(clip, 0, samples, self.sampling_rate))
        except (AudioError, OSError, UnwantedClip):
            return None  # the training side reports unreadable files

    def _open(self, name: str, source: SourceArguments) -> None:
        captions = CaptionTemplates(source.templates) if self.with_captions else None
        dataset = load_audio_dataset(
            source.source,
            source.split,
            audio_column=source.audio_column,
            # other columns are checked with their templates
            text_column="text" if captions is not None and "text" in captions.columns else None,
            config_name=source.config_name,
            streaming=self.arguments.streaming,
        )
        if captions is not None and dataset.column_names is not None:
            captions.check(dataset.column_names, source.source)
            captions = CaptionTemplates(source.templates, dataset.features)
        # without the folders above, so that moving the data does not matter
        self.identities[name] = [Path(source.source).name, source.split, source.config_name, source.weight]
        reader = self.reader(source, captions)
        self.readers.append(reader)
        self.sources.append(
            TrainingSource.split(
                dataset,
                reader.columns,
                name=name,
                weight=source.weight,
                validation_fraction=source.validation_fraction,
                validation_key=source.validation_key or source.audio_column,
            )
        )
        if self.arguments.streaming:
            self.say(f"streaming {source.source}")

    def _index(self) -> MixedClips:
        datasets = []
        for number, (source, reader) in enumerate(zip(self.sources, self.readers, strict=True)):
            dataset = ClipDataset(
                source.training,
                reader,
                seed=source_seed(self.seed, number),
                name=source.name,
                cache_at=self.sampling_rate if self.arguments.cache_audio else None,
            )
            held_out = len(source.validation) if isinstance(source.validation, Dataset) else 0
            title = f"{source.name}: " if source.name else ""
            cached = f", {dataset.cache.num_bytes() / 2**20:.0f} MiB cached" if dataset.cache else ""
            share = f", {source.weight / sum(self.weights):.1%} of the samples" if source.name else ""
            self.say(f"{title}{len(dataset)} clips to train on, {held_out} held out{cached}{share}")
            datasets.append(dataset)
        return MixedClips(datasets)

    def _loader(self, dataset: Any, num_workers: int, sampler: Any = None) -> Iterable[dict[str, Any]]:
        return make_loader(
            dataset,
            self.collate,
            batch_size=self.arguments.batch_size,
            num_workers=num_workers,
            prefetch_factor=self.arguments.prefetch_factor,
            sampler=sampler,
            seed=self.seed,
        )

    def _stream(
        self, start: int, rank: int, world_size: int, position: dict[str, Any] | None
    ) -> Iterator[dict[str, Any]]:
        shards = {
            source.name: split_by_node(source.training, rank, world_size).num_shards
            for source in self.sources
        }
        fewest = min(shards, key=shards.get)
        num_workers = min(self.arguments.num_workers, shards[fewest])
        if num_workers < self.arguments.num_workers:
            self.say(
                f"data.num_workers {num_workers} instead of {self.arguments.num_workers}: a process has no "
                f"more shards of the stream {fewest!r}"
            )
        places = max(1, num_workers)
        block_size = max(1, self.arguments.shuffle_buffer // places)
        setting = {
            "num_processes": world_size,
            "rank": rank,
            "num_workers": places,
            "block_size": block_size,
            "sources": self.identities,
        }
        position = self._continued(position, setting, start)
        streams = []
        for number, (source, reader) in enumerate(zip(self.sources, self.readers, strict=True)):
            rows = ShuffledRows(
                source.training,
                seed=source_seed(self.seed, number),
                block_size=block_size,
                rank=rank,
                world_size=world_size,
                name=source.name,
            )
            streams.append(ClipStream(rows, reader, source.is_held_out))
        mixed = MixedStream(
            streams,
            self.weights,
            seed=self.seed,
            positions=position["workers"],
            first_epoch=position["first_epoch"],
        )
        yield from stream_batches(self._loader(mixed, num_workers), position)

    def _continued(
        self, position: dict[str, Any] | None, setting: dict[str, Any], start: int
    ) -> dict[str, Any]:
        if position is not None:
            changed = [
                f"{name} {position.get(name)} became {value}"
                for name, value in setting.items()
                if position.get(name) != value
            ]
            if not changed:
                return position
            self.say(f"the streamed data begins a fresh pass, since {', '.join(changed)}")
        # a pass that no run from the beginning comes to: other crops, another order
        return {**setting, "first_epoch": start, "next": 0, "workers": [None] * setting["num_workers"]}


class CropLoader(AudioLoader):
    """Batches of random crops: `waveform` (batch, channels, samples), `noise_seed` (batch,), `failures`.

    With `with_captions` also the list `text`, by the templates of `arguments.captions`; a clip without a
    caption has the empty text. The crops are the same with and without.
    """

    collate = staticmethod(collate_crops)

    def __init__(
        self,
        arguments: AudioDataArguments,
        sampling_rate: int,
        channels: int,
        seed: int,
        say: Any,
        with_captions: bool = False,
    ) -> None:
        self.with_captions = with_captions
        super().__init__(arguments, sampling_rate, channels, seed, say)

    def reader(self, source: SourceArguments, captions: CaptionTemplates | None) -> CropReader:
        return CropReader(
            self.arguments.crops, self.sampling_rate, self.channels, source.audio_column, captions
        )

    def held_out(self) -> Iterator[torch.Tensor]:
        """The held-out clips one by one, `(1, channels, samples)`; zeros follow very short ones."""
        for reader, row in self.held_out_rows():
            waveform = self.whole_clip(reader, row, self.arguments.validation_seconds)
            if waveform is not None:
                missing = max(0, SHORTEST_CLIP - waveform.shape[-1])
                yield torch.nn.functional.pad(waveform, (0, missing))[None]


class AudioCaptionLoader(AudioLoader):
    """Batches of clips, or random spans of at most `max_seconds`, with a caption each.

    `waveform` (batch, channels, samples) is zero after a clip's end, `num_samples` (batch,) int64 says where
    that is; `text` is a list, `noise_seed` (batch,), `failures`.
    """

    with_captions = True
    collate = staticmethod(collate_clips)

    def reader(self, source: SourceArguments, captions: CaptionTemplates | None) -> CaptionedClipReader:
        return CaptionedClipReader(
            captions,
            self.sampling_rate,
            self.channels,
            max_seconds=self.arguments.max_seconds,
            caption_dropout=self.arguments.captions.dropout,
            channel_policy=self.arguments.crops.channels,
            audio_column=source.audio_column,
        )

    def held_out(self) -> Iterator[dict[str, Any]]:
        """Batches of held-out clips from their beginning, with their first caption and fixed noise seeds."""
        items = self._held_out_items()
        while batch := list(islice(items, self.arguments.batch_size)):
            yield self.collate(batch)

    def _held_out_items(self) -> Iterator[dict[str, Any]]:
        for number, (reader, row) in enumerate(self.held_out_rows()):
            waveform = self.whole_clip(reader, row, self.arguments.max_seconds)
            if waveform is not None:
                text = next(iter(reader.captions.candidates(row)), "")
                yield {"waveform": waveform, "text": text, "noise_seed": noise_seed(number), "failures": []}
