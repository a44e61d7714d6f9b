"""How much memory a run takes, and how much the activations of one training step."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import nn


def memory_in_use(device: torch.device) -> int:
    """Bytes: on a GPU the most that tensors have taken so far, else what the process takes now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss


@dataclass(frozen=True)
class Activations:
    """What a forward pass keeps for its backward pass, in bytes.

    `kept` of the whole batch, of which `fixed` do not depend on its size (weights in another precision or
    normalized), and `largest`, the largest single tensor.
    """

    kept: int
    fixed: int
    largest: int


def measure_activations(
    forward: Callable[[int], Any], batch_size: int, modules: Iterable[nn.Module]
) -> Activations:
    """Run `forward` on batches of two and three samples, and extend what they keep to `batch_size`.

    `forward(size)` returns what holds the graph. Each storage is counted once; parameters and buffers of
    `modules` are not counted.
    """
    own = {
        tensor.untyped_storage().data_ptr()
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
    }
    if batch_size < 3:
        kept = _kept(lambda: forward(batch_size), own)
        return Activations(sum(kept), 0, max(kept, default=0))
    # two and three: with a single sample, operations that would copy it need not
    small, large = (_kept(lambda size=size: forward(size), own) for size in (2, 3))
    if len(small) != len(large):
        small, large = [sum(small)], [sum(large)]
    # the same operations keep the same tensors in the same order
    growth = [max(0, after - before) for before, after in zip(small, large, strict=True)]
    fixed = [after - 3 * step for after, step in zip(large, growth, strict=True)]
    final = [start + batch_size * step for start, step in zip(fixed, growth, strict=True)]
    return Activations(sum(final), sum(fixed), max(final, default=0))


def _kept(forward: Callable[[], Any], own: set[int]) -> list[int]:
    """Sizes of the storages that the backward pass needs, in the order in which they were kept."""
    storages: dict[int, int] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        graph = forward()
    del graph  # until here, so that no storage takes the place of another
    return list(storages.values())
