"""In which order a training run visits its clips."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from torch.utils.data import Sampler


class EndlessShuffle(Sampler):
    """Endless `(epoch, index)` pairs: every index once per epoch, in an order given by (seed, epoch).

    A run is continued exactly by starting at the number of samples already taken (`start`). With several
    processes, each takes every `world_size`-th pair from `rank` on.
    """

    def __init__(
        self, length: int, seed: int = 0, start: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1 to draw samples, got {length}")
        self.length = length
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position = self.start + self.rank
        epoch, order = -1, None
        while True:
            if position // self.length != epoch:
                epoch = position // self.length
                order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
            yield epoch, int(order[position % self.length])
            position += self.world_size


class BucketedShuffle(Sampler):
    """`EndlessShuffle` with clips of similar length in one batch, so that little of a batch is padding.

    The shuffled sequence is cut into global batches: `batch_size` clips for each of `world_size` processes.
    Those of one epoch are gathered in windows of up to `window_batches`; a window is sorted by length, cut
    anew, and its batches are visited in a random order. A batch in which one epoch ends and the next begins
    stays as it is. So every `(epoch, index)` comes exactly once, and no batch is incomplete.

    The sequence is a function of (seed, global batch): one process with batches of 8 sees the global batches
    of two with 4, and a run is continued exactly by starting at the number of samples already taken
    (`start`). Neighbours in length go to different processes, which therefore have nearly the same work.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        window_batches: int = 64,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("window_batches", window_batches)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if len(lengths) < 1:
            raise ValueError("lengths must hold at least one length to draw samples, got none")
        self.lengths = np.asarray(lengths)
        self.global_batch = batch_size * world_size
        self.window_batches = window_batches
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position = self.start + self.rank
        while True:
            first, end = self._window(position // self.global_batch)
            pairs = self._sorted(first, end)
            while position < end * self.global_batch:
                yield pairs[position - first * self.global_batch]
                position += self.world_size

    def _window(self, batch: int) -> tuple[int, int]:
        """The first batch of the window that `batch` is in, and the one after its last."""
        length, size = len(self.lengths), self.global_batch
        epoch = batch * size // length
        first, end = -(-epoch * length // size), (epoch + 1) * length // size
        if not first <= batch < end:
            return batch, batch + 1  # the turn of an epoch
        # windows of nearly equal size: a last one of few batches could not be sorted well
        count = -(-(end - first) // self.window_batches)
        bounds = [first + number * (end - first) // count for number in range(count + 1)]
        following = next(number for number, bound in enumerate(bounds) if bound > batch)
        return bounds[following - 1], bounds[following]

    def _sorted(self, first: int, end: int) -> list[tuple[int, int]]:
        size = self.global_batch
        shuffled = EndlessShuffle(len(self.lengths), self.seed, start=first * size)
        pairs = list(islice(shuffled, (end - first) * size))
        by_length = np.argsort(self.lengths[[index for _, index in pairs]], kind="stable")
        order = np.random.default_rng([self.seed, first, end]).permutation(end - first)
        return [pairs[place] for place in by_length.reshape(-1, size)[order].flatten()]
