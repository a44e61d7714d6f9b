"""The clips of a data set that every autoencoder of a comparison is probed on, none of them encoded yet."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import ClassLabel, Dataset

from ..audio import AudioError, audio_info, convert_channels
from ..audit.clips import choose_clips
from ..data import BadFile, audio_name, audio_source, read_span, row_captions, split_for_validation
from .settings import ProbeSettings

SHORTEST_IN_S = 0.5
FEWEST_CLIPS = 2
TEXT, LABEL = "text", "label"


@dataclass(frozen=True)
class ClipSpan:
    """`seconds` of the recording in row `row`, from `start` seconds on."""

    row: int
    start: float
    seconds: float


@dataclass(frozen=True)
class ClipPart:
    """Clips to train on, or held-out ones; clip i has the `captions[i]`, at least one, and `labels[i]`."""

    rows: Dataset
    audio_column: str
    spans: list[ClipSpan]
    captions: list[list[str]]
    labels: list[str | None]

    def __len__(self) -> int:
        return len(self.spans)

    def read(self, index: int, sampling_rate: int, channels: int) -> torch.Tensor:
        """The clip's waveform `(channels, samples)`. Raises `AudioError` or `OSError`."""
        span = self.spans[index]
        source = audio_source(self.rows[span.row][self.audio_column])
        start, samples = (round(value * sampling_rate) for value in (span.start, span.seconds))
        return convert_channels(read_span(source, start, samples, sampling_rate), channels)

    def name(self, index: int) -> str:
        span = self.spans[index]
        name = audio_name(self.rows[span.row][self.audio_column], span.row)
        return f"{name} from {span.start:g} s" if span.start else name

    def describe(self) -> list[tuple[str, float, float, list[str], str | None]]:
        """What tells these clips from others: file names, spans, captions, labels."""
        return [
            (Path(self.name(index)).name, span.start, span.seconds, captions, label)
            for index, (span, captions, label) in enumerate(
                zip(self.spans, self.captions, self.labels, strict=True)
            )
        ]


@dataclass(frozen=True)
class ProbeClips:
    """Clips to train on and held-out ones of the data set `name`, without the files that cannot be read."""

    name: str
    training: ClipPart
    held_out: ClipPart
    bad_files: tuple[BadFile, ...] = ()

    @property
    def has_captions(self) -> bool:
        return any(caption for captions in self.training.captions for caption in captions)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over file names, spans, captions and labels of both parts; not over the samples."""
        text = json.dumps([self.training.describe(), self.held_out.describe()], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def prompts(self, number: int) -> list[int]:
        """Held-out clips whose captions are generated: in turn, such that few of them show many labels."""
        seen: Counter[str] = Counter()
        places = []
        for index in range(len(self.held_out)):
            group = self.held_out.labels[index] or self.held_out.captions[index][0]
            places.append((seen[group], index))
            seen[group] += 1
        order = [index for _, index in sorted(places)]
        return [order[turn % len(order)] for turn in range(number)]


def open_clips(
    dataset: Dataset,
    settings: ProbeSettings,
    *,
    name: str = "",
    audio_column: str = "audio",
    text_column: str | None = None,
    label_column: str | None = None,
    key_column: str | None = None,
) -> ProbeClips:
    """Split a data set and look at every clip once; damaged and very short ones are left out for all.

    Args:
        dataset: with undecoded audio, as `load_audio_dataset` gives it.
        name: for the document.
        text_column: captions, one or a list in each row; by default "text" where there is one, else the
            labels. Without either the generators learn without text.
        label_column: for the accuracy of what is generated; by default "label" where there is one.
        key_column: recordings that share a value stay on one side of the split; by default each file is a
            recording of its own.

    Raises:
        ValueError: a stream, a column that is not there, or a part of the split with fewer than two clips.
    """
    if not isinstance(dataset, Dataset):
        raise ValueError("`dataset` must be one that can be indexed, not a stream.")
    for argument, column in (
        ("audio_column", audio_column),
        ("text_column", text_column),
        ("label_column", label_column),
        ("key_column", key_column),
    ):
        if column is not None and column not in dataset.column_names:
            listing = ", ".join(dataset.column_names)
            raise ValueError(f"`{argument}` {column!r} is not in the data set, which has {listing}.")
    label_column = label_column or (LABEL if LABEL in dataset.column_names else None)
    text_column = text_column or (TEXT if TEXT in dataset.column_names else None)
    parts = split_for_validation(
        dataset, settings.held_out_fraction, key_column=key_column or audio_column, seed=settings.seed
    )
    shares = (1 - settings.held_out_fraction, settings.held_out_fraction)
    opened, bad_files = [], []
    for title, rows, part_share in zip(("training", "held-out"), parts, shares, strict=True):
        most = (
            None if settings.max_clips is None else max(FEWEST_CLIPS, round(part_share * settings.max_clips))
        )
        part, bad = _open_part(rows, settings, audio_column, text_column, label_column, most)
        if len(part) < FEWEST_CLIPS:
            reasons = "; ".join(f"{file.name}: {file.reason}" for file in bad[:3])
            raise ValueError(
                f"The data set {name!r} has {len(part)} {title} clips that can be read, {FEWEST_CLIPS} are "
                f"the least. {reasons}"
            )
        opened.append(part)
        bad_files += bad
    return ProbeClips(name, *opened, tuple(bad_files))


def _open_part(
    rows: Dataset,
    settings: ProbeSettings,
    audio_column: str,
    text_column: str | None,
    label_column: str | None,
    most: int | None,
) -> tuple[ClipPart, list[BadFile]]:
    spans, bad_files = _spans(rows, audio_column, settings.max_seconds)
    spans = [spans[index] for index in choose_clips(len(spans), most, settings.seed)]
    part = ClipPart(rows, audio_column, spans, [[""]] * len(spans), [None] * len(spans))
    readable = []
    for index, span in enumerate(spans):
        try:
            rate = audio_info(audio_source(rows[span.row][audio_column])).sampling_rate
            if not bool(torch.isfinite(part.read(index, rate, 1)).all()):
                raise AudioError("holds NaN or infinite samples")
            readable.append(span)
        except (AudioError, OSError) as error:
            bad_files.append(BadFile.from_error(part.name(index), error))
    labels = _labels(rows, label_column)
    if text_column is not None:
        captions = row_captions(rows, text_column)
    else:
        captions = [[(label or "").replace("_", " ")] for label in labels]
    kept_captions = [captions[span.row] for span in readable]
    return (
        ClipPart(rows, audio_column, readable, kept_captions, [labels[span.row] for span in readable]),
        bad_files,
    )


def _spans(rows: Dataset, audio_column: str, max_seconds: float) -> tuple[list[ClipSpan], list[BadFile]]:
    """Consecutive clips of at most `max_seconds`; the rest of a recording counts if it is half as long."""
    spans: list[ClipSpan] = []
    bad_files: list[BadFile] = []
    for row in range(len(rows)):
        value = rows[row][audio_column]
        try:
            seconds = audio_info(audio_source(value)).duration
            if seconds < SHORTEST_IN_S:
                raise AudioError(f"{seconds:.3f} s are less than {SHORTEST_IN_S} s")
        except (AudioError, OSError) as error:
            bad_files.append(BadFile.from_error(audio_name(value, row), error))
            continue
        for number in range(math.ceil(seconds / max_seconds)):
            start = number * max_seconds
            length = min(max_seconds, seconds - start)
            if number == 0 or length >= max(SHORTEST_IN_S, max_seconds / 2):
                spans.append(ClipSpan(row, start, length))
    return spans, bad_files


def _labels(rows: Dataset, label_column: str | None) -> Sequence[str | None]:
    if label_column is None:
        return [None] * len(rows)
    feature = rows.features[label_column]
    values: list[Any] = list(rows[label_column])
    if isinstance(feature, ClassLabel):
        # datasets writes a missing label as -1
        return [feature.int2str(value) if value is not None and value >= 0 else None for value in values]
    return [None if value in (None, "") else str(value) for value in values]
