"""The clips to encode, in units that processes share out, and a fingerprint of all of them."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, IterableDataset, Value

from encoding.arguments import EncodeArguments, file_name_of
from star_hf.data import load_audio_dataset

ROWS_PER_SHARD = 500
FEWEST_SHARDS = 32
SAMPLED_ROWS = 256
SAMPLED_BYTES = 2**20

#: The numbers that a clip's random choices follow from, and its row.
KeyedRow = tuple[tuple[int, ...], dict[str, Any]]


class TableSource:
    """A dataset with a length: a unit is a range of its rows and gives one Parquet file."""

    def __init__(self, dataset: Dataset, rows_per_shard: int | None) -> None:
        self.dataset, self.num_rows = dataset, len(dataset)
        # a small dataset is cut finer, or there would be nothing to share
        fine = min(ROWS_PER_SHARD, max(1, -(-self.num_rows // FEWEST_SHARDS)))
        self.rows_per_shard = rows_per_shard or fine
        self.num_units = -(-self.num_rows // self.rows_per_shard)

    def part_name(self, unit: int, part: int) -> str:
        return f"{unit:05d}"

    def finished_parts(self, unit: int, has_part: Callable[[str], bool]) -> int:
        """How many parts of a unit are there."""
        return int(has_part(self.part_name(unit, 0)))

    def parts(self, unit: int, first: int) -> Iterator[Iterator[KeyedRow]]:
        """The rows of each part of a unit, from the part `first` on."""
        if first == 0:
            start = unit * self.rows_per_shard
            stop = min(start + self.rows_per_shard, self.num_rows)
            yield (((index,), self.dataset[index]) for index in range(start, stop))


class StreamSource:
    """A stream: a unit is one of its shards, read in order, with a Parquet file per `rows_per_shard` rows.

    No more processes than the stream has shards can work at the same time. An interrupted unit is read from
    its beginning again, and what was encoded is skipped.
    """

    num_rows = None

    def __init__(self, dataset: IterableDataset, rows_per_shard: int | None) -> None:
        self.dataset, self.num_units = dataset, dataset.num_shards
        self.rows_per_shard = rows_per_shard or ROWS_PER_SHARD

    def part_name(self, unit: int, part: int) -> str:
        return f"{unit:05d}-{part:05d}"

    def finished_parts(self, unit: int, has_part: Callable[[str], bool]) -> int:
        """How many parts of a unit are there, from the first on."""
        return next(part for part in count() if not has_part(self.part_name(unit, part)))

    def parts(self, unit: int, first: int) -> Iterator[Iterator[KeyedRow]]:
        """The rows of each part of a unit, from the part `first` on; one without rows comes at the end."""
        skipped = first * self.rows_per_shard
        rows = iter(self.dataset.shard(self.num_units, unit).skip(skipped))
        numbered = (((unit, skipped + position), row) for position, row in enumerate(rows))
        while True:
            yield islice(numbered, self.rows_per_shard)


def open_source(arguments: EncodeArguments) -> TableSource | StreamSource:
    """Open the dataset; `ValueError` names a column that it does not have."""
    dataset = load_audio_dataset(
        arguments.source,
        arguments.split,
        audio_column=arguments.audio_column,
        text_column=arguments.text_column,
        config_name=arguments.config_name,
        streaming=arguments.streaming,
    )
    if isinstance(dataset, Dataset):
        return TableSource(dataset, arguments.rows_per_shard)
    return StreamSource(dataset, arguments.rows_per_shard)


def column_features(dataset: Dataset | IterableDataset, arguments: EncodeArguments) -> Features:
    """Types of the columns that the latents take over; `ValueError` for a missing one."""
    features = dataset.features
    if features is None:  # some streams do not say
        features = Dataset.from_list(list(dataset.take(8))).features
    text = [] if arguments.text_column is None else [arguments.text_column]
    for name in (arguments.audio_column, *text, *arguments.keep_columns):
        if name not in features:
            raise ValueError(f"column {name!r} is not in the dataset; it has {', '.join(features)}")
    caption = features[arguments.text_column] if text else Value("string")
    return Features({"text": caption, **{name: features[name] for name in arguments.keep_columns}})


def kept_columns(row: dict[str, Any], arguments: EncodeArguments) -> dict[str, Any]:
    """What the latents of a clip take over from its row."""
    text = "" if arguments.text_column is None else row[arguments.text_column]
    return {"text": text, **{name: row[name] for name in arguments.keep_columns}}


def dataset_fingerprint(dataset: Dataset | IterableDataset, arguments: EncodeArguments) -> str:
    """SHA-256 over the clips and captions of a dataset, the same wherever its folder lies.

    Of every row: the audio file's name below `source`, its size in bytes, and the columns taken over; of up
    to 256 rows, spread evenly, the first MiB of audio too. So a million rows need not be read: one file that
    changes without changing its size may go unnoticed, a change to all files does not.

    A stream cannot be read beforehand: its name, split, shards, columns, and the same of its first row count.
    """
    digest = hashlib.sha256()
    columns = [name for name in (arguments.text_column, *arguments.keep_columns) if name is not None]

    def add(*values: Any) -> None:
        digest.update(json.dumps(values, default=str, sort_keys=True).encode() + b"\n")

    if isinstance(dataset, Dataset):
        add(len(dataset), columns)
        for row in _row_summaries(dataset, arguments, columns):
            add(*row)
        sampled = range(0, len(dataset), max(1, -(-len(dataset) // SAMPLED_ROWS)))
        heads = (dataset[index][arguments.audio_column] for index in sampled)
    else:
        name = (
            os.path.basename(os.path.normpath(arguments.source)) if _is_local(arguments) else arguments.source
        )
        add(name, arguments.config_name, arguments.split, dataset.num_shards, dataset.column_names, columns)
        first = list(dataset.take(1))
        for row in first:
            add(*(row[name] for name in columns))
        heads = (row[arguments.audio_column] for row in first)
    for value in heads:
        digest.update(hashlib.sha256(_head(value)).digest())
    return digest.hexdigest()


def _is_local(arguments: EncodeArguments) -> bool:
    return Path(arguments.source).expanduser().exists()


def _head(value: Any) -> bytes:
    """The beginning of an undecoded audio value; nothing of a file that is missing or not on this machine."""
    content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (None, value)
    if isinstance(content, bytes):
        return content[:SAMPLED_BYTES]
    if path is None or not os.path.isfile(path):
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(SAMPLED_BYTES)
    except OSError:
        return b""  # reported when it is to be encoded


def _row_summaries(
    dataset: Dataset, arguments: EncodeArguments, columns: list[str]
) -> Iterator[tuple[Any, ...]]:
    root = str(Path(arguments.source).expanduser())
    chosen = dataset.select_columns(list(dict.fromkeys([arguments.audio_column, *columns])))
    for table in chosen.with_format("arrow").iter(1000):
        others = [table[name].to_pylist() for name in columns]
        for (path, size), *values in zip(
            _paths_and_sizes(table[arguments.audio_column]), *others, strict=True
        ):
            if size is None:
                size = os.path.getsize(path) if path is not None and os.path.isfile(path) else None
            yield (None if path is None else file_name_of(path, root), size, *values)


def _paths_and_sizes(column: pa.ChunkedArray) -> Iterator[tuple[str | None, int | None]]:
    """Of each undecoded audio value, without touching the bytes."""
    for chunk in column.chunks:
        if pa.types.is_struct(chunk.type):
            paths = pc.struct_field(chunk, "path").to_pylist()
            sizes = pc.binary_length(pc.struct_field(chunk, "bytes")).to_pylist()
            yield from zip(paths, sizes, strict=True)
        else:
            yield from ((path, None) for path in chunk.to_pylist())
