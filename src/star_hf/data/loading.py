"""Batches from worker processes, and the position of a stream that travels with each of them."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler


def make_loader(
    dataset: Dataset | IterableDataset,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    *,
    batch_size: int,
    num_workers: int = 0,
    prefetch_factor: int = 2,
    sampler: Sampler | None = None,
    seed: int = 0,
) -> DataLoader:
    """A `DataLoader` for endless batches; `prefetch_factor` batches of each worker wait to be used."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
        prefetch_factor=prefetch_factor if num_workers > 0 else None,
        worker_init_fn=_start_worker,
        # without its own a loader draws from the global generator, and a resumed run would diverge
        generator=torch.Generator().manual_seed(seed),
        pin_memory=torch.cuda.is_available(),
    )


def stream_batches(batches: Iterable[dict[str, Any]], position: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Batches of a `MixedStream`, each with the `position` of the whole process after it.

    A batch comes with the (worker, place) of its last item; workers take turns. `position` holds `workers`,
    the place of each worker, and `next`, the worker whose turn it is; what else it holds is passed on.
    """
    places = list(position["workers"])
    for batch in _in_turn(iter(batches), position["next"], len(places)):
        worker, places[worker] = batch["position"]
        following = (worker + 1) % len(places)
        yield {**batch, "position": {**position, "next": following, "workers": list(places)}}


def _in_turn(batches: Iterator[dict[str, Any]], first: int, count: int) -> Iterator[dict[str, Any]]:
    # A loader begins with worker 0. When it is the turn of another, the batches of those before it wait.
    waiting = deque(next(batches) for _ in range(first))
    while True:
        for _ in range(count - first):
            yield next(batches)
        for _ in range(first):
            waiting.append(next(batches))
            yield waiting.popleft()


def _start_worker(worker: int) -> None:
    # PyTorch gives a worker one thread. Ctrl-C is for the process that started it, with which it ends; so is
    # the SIGTERM that torchrun sends to a whole process group.
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
