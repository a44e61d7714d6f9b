"""In which order a training run visits its clips."""

from collections.abc import Iterator

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
