"""Endless, shuffled, exactly resumable items of datasets that can only be read in order."""

import inspect
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node

from .bad_files import BadFile
from .items import (
    MAX_CONSECUTIVE_FAILURES,
    ItemReader,
    UnwantedClip,
    all_bad,
    noise_seed,
    read_item,
)
from .mixing import SourceDraws

SHUFFLE_STREAM = 3  # entropy words of their own, beside those of the noise seeds and of the mixing
PASS_STREAM = 4


class StreamedRow(NamedTuple):
    """A row; what names it, (epoch, rank, worker, number in the pass); and the position after it."""

    row: dict[str, Any]
    key: tuple[int, int, int, int]
    position: dict[str, Any]


@dataclass
class Block:
    """Rows that are shuffled together, and where the dataset stood before the first of them."""

    epoch: int
    number: int = 0
    state: dict[str, Any] | None = None
    rows: list[dict[str, Any] | None] = field(default_factory=list)


class ShuffledRows:
    """One process's share of a streamed dataset: endless passes, each in another order.

    The shards are shuffled for each pass, then rows within blocks of `block_size`; as many rows are in
    memory, since a row of the next block is read for each one that is given. A position is small and can be
    written as JSON; `datasets` restores where a block began, so continuing reads two blocks again at most.

    Whole shards go to each of `world_size` processes if there are as many shards, else each process skips the
    rows of the others. Workers of a `DataLoader` share the shards of their process.
    """

    def __init__(
        self,
        dataset: IterableDataset,
        *,
        seed: int = 0,
        block_size: int = 1000,
        rank: int = 0,
        world_size: int = 1,
        name: str = "",
    ) -> None:
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1 row, got {block_size}")
        self.dataset = dataset
        self.seed = seed
        self.block_size = block_size
        self.rank = rank
        self.world_size = world_size
        self.name = name

    @property
    def num_shards(self) -> int:
        """Shards of this process: as many workers can share them."""
        return split_by_node(self.dataset, self.rank, self.world_size).num_shards

    def rows(
        self, worker: int = 0, position: Mapping[str, Any] | None = None, first_epoch: int = 0
    ) -> Iterator[StreamedRow]:
        """Rows after `position`, or from the beginning of the pass `first_epoch`."""
        complete: deque[Block] = deque()
        block, offset = Block(first_epoch), 0
        if position is not None:
            block = Block(position["epoch"], position["block"], position["state"])
            offset = position["offset"]
        fill = self._fill(block, complete)
        while True:
            while not complete:
                next(fill)
            block = complete.popleft()
            key = (block.epoch, self.rank, worker)
            place = {"epoch": block.epoch, "block": block.number, "state": block.state}
            random = np.random.default_rng([self.seed, *key, block.number, SHUFFLE_STREAM])
            for done, index in enumerate(random.permutation(len(block.rows)).tolist(), start=1):
                next(fill)
                row, block.rows[index] = block.rows[index], None
                if done > offset:
                    number = block.number * self.block_size + index
                    yield StreamedRow(row, (*key, number), {**place, "offset": done})
            offset = 0

    def _fill(self, block: Block, complete: deque[Block]) -> Iterator[None]:
        """Reads one row at each step, and adds blocks to `complete` as they are full."""
        # a copy of its own: workers would share the epoch of the other
        dataset = split_by_node(self.dataset, self.rank, self.world_size)
        while True:
            dataset.set_epoch(noise_seed(self.seed, block.epoch, PASS_STREAM))
            dataset.load_state_dict(block.state or {})
            empty = block.number == 0
            for row in dataset:
                empty = False
                block.rows.append(row)
                if len(block.rows) == self.block_size:
                    complete.append(block)
                    block = Block(block.epoch, block.number + 1, dataset.state_dict())
                yield
            if empty:
                raise ValueError(
                    f"the stream {self.name!r} has no rows for process {self.rank} of {self.world_size}: use "
                    "fewer processes or workers, or write it in more shards"
                )
            if block.rows:
                complete.append(block)
            block = Block(block.epoch + 1)


class ClipStream:
    """What `reader` makes of the rows of a stream; rows for which `held_out` is true are left out.

    An item is the reader's dict, `noise_seed`, `failures` (the files that could not be read before it) and
    `position`. Raises `TooManyBadFiles` after many bad files in a row, and `ValueError` when a whole pass
    gives no item.
    """

    def __init__(
        self,
        rows: ShuffledRows,
        reader: ItemReader,
        held_out: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> None:
        self.rows = rows
        self.reader = reader
        self.held_out = held_out

    def items(
        self, worker: int = 0, position: Mapping[str, Any] | None = None, first_epoch: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Items after `position`, or from the beginning of the pass `first_epoch`."""
        seed, name = self.rows.seed, self.rows.name
        fruitful = first_epoch if position is None else position["epoch"]
        failures: list[BadFile] = []
        reason = "all rows are held out"
        for row, key, after in self.rows.rows(worker, position, first_epoch):
            epoch, _, _, number = key
            if epoch > fruitful + 1:
                raise ValueError(f"a whole pass over the stream {name!r} gives no clip: {reason}")
            if self.held_out is not None and self.held_out(row):
                continue
            try:
                item = read_item(self.reader, row, np.random.default_rng([seed, *key]), number, name)
            except UnwantedClip as unwanted:
                reason = str(unwanted)
                continue
            fruitful = epoch
            if isinstance(item, BadFile):
                failures.append(item)
                if len(failures) >= MAX_CONSECUTIVE_FAILURES:
                    raise all_bad(failures)
                continue
            yield {**item, "noise_seed": noise_seed(seed, *key), "failures": failures, "position": after}
            failures = []


class MixedStream(torch.utils.data.IterableDataset):
    """Items of one or several `ClipStream`s, drawn by their weights, for the workers of a `DataLoader`.

    An item's `position` is (worker, what that worker continues from). `positions` holds the latter for each
    worker, or `None` for one that is to begin with the pass `first_epoch`.
    """

    def __init__(
        self,
        streams: Sequence[ClipStream],
        weights: Sequence[float],
        *,
        seed: int = 0,
        positions: Sequence[Mapping[str, Any] | None] | None = None,
        first_epoch: int = 0,
    ) -> None:
        if not streams or len(streams) != len(weights):
            raise ValueError(f"streams and weights must be as many, got {len(streams)} and {len(weights)}")
        SourceDraws(weights, seed)  # the weights are checked here rather than in a worker
        self.streams = list(streams)
        self.weights = list(weights)
        self.seed = seed
        self.positions = positions
        self.first_epoch = first_epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = torch.utils.data.get_worker_info()
        worker = info.id if info is not None else 0
        position = self.positions[worker] if self.positions is not None else None
        drawn = position["drawn"] if position is not None else 0
        places = list(position["streams"]) if position is not None else [None] * len(self.streams)
        items = [
            stream.items(worker, place, self.first_epoch)
            for stream, place in zip(self.streams, places, strict=True)
        ]
        draws = SourceDraws(self.weights, self.seed, self.first_epoch, self.streams[0].rows.rank, worker)
        while True:
            source = draws[drawn]
            item = next(items[source])
            drawn += 1
            places[source] = item["position"]
            yield {**item, "position": (worker, {"drawn": drawn, "streams": list(places)})}


def split_by_node(dataset: IterableDataset, rank: int, world_size: int) -> IterableDataset:
    """`datasets`' own splitting: by shards where every process can have one, else row by row."""
    options: dict[str, Any] = {}
    if "strategy" in inspect.signature(split_dataset_by_node).parameters:
        options["strategy"] = "shards" if dataset.num_shards >= world_size else "examples"
    return split_dataset_by_node(dataset, rank, world_size, **options)
