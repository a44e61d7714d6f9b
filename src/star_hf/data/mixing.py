"""In which order a run draws from several datasets: by their weights, each in exact epochs of its own."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from .items import source_seed
from .sampling import EndlessShuffle

BLOCK = 65536
MIXING_STREAM = 2  # an entropy word of its own, beside those of the noise seeds


class SourceDraws:
    """Which dataset each sample comes from: independent draws with probabilities in proportion to `weights`.

    The draw at a position follows from (*seed, position) alone. Raises `ValueError` for weights that are not
    finite and greater than 0.
    """

    def __init__(self, weights: Sequence[float], *seed: int) -> None:
        for weight in weights:
            if not (math.isfinite(weight) and weight > 0):
                raise ValueError(f"the weight of a dataset must be finite and greater than 0, got {weight}")
        self.seed = seed
        self.bounds = np.cumsum(weights)[:-1] / np.sum(weights)
        self.number, self.draws = -1, np.empty(0, dtype=np.int64)

    def block(self, number: int) -> np.ndarray:
        """The draws at positions `number * BLOCK` to `(number + 1) * BLOCK - 1`."""
        if number != self.number:
            random = np.random.default_rng([*self.seed, number, MIXING_STREAM])
            self.number = number
            self.draws = np.searchsorted(self.bounds, random.random(BLOCK), side="right")
        return self.draws

    def __getitem__(self, position: int) -> int:
        return int(self.block(position // BLOCK)[position % BLOCK])


class MixtureShuffle(Sampler):
    """Endless `(number of the dataset, epoch, index)`: `SourceDraws` says which dataset, and each goes
    through its own indices as `EndlessShuffle` does.

    The sequence follows from (seed, position) alone. A run is continued exactly by starting at the number of
    samples already taken (`start`); of several processes, each takes every `world_size`-th key, from `rank`.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        weights: Sequence[float],
        seed: int = 0,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not lengths or len(lengths) != len(weights):
            raise ValueError(f"lengths and weights must be as many, got {len(lengths)} and {len(weights)}")
        self.lengths = list(lengths)
        self.draws = SourceDraws(weights, seed)
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        first = self.start + self.rank
        taken = self._taken(first)
        sources = [
            iter(EndlessShuffle(length, source_seed(self.seed, number), start=int(taken[number])))
            for number, length in enumerate(self.lengths)
        ]
        position = first
        while True:
            # the keys of the other processes are drawn, too: each dataset is shared by all of them
            source = self.draws[position]
            epoch, index = next(sources[source])
            if (position - first) % self.world_size == 0:
                yield source, epoch, index
            position += 1

    def _taken(self, position: int) -> np.ndarray:
        """How many samples of each dataset come before `position`."""
        kinds = len(self.lengths)
        if kinds == 1:
            return np.array([position])
        number, offset = divmod(position, BLOCK)
        counts = [np.bincount(self.draws.block(before), minlength=kinds) for before in range(number)]
        counts.append(np.bincount(self.draws.block(number)[:offset], minlength=kinds))
        return np.sum(counts, axis=0)
