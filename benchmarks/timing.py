"""Seconds of calls that take turns, and the floating point operations of a call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")


def time_in_turn(
    functions: list[Callable[[], object]], repeats: int, device: torch.device | None = None
) -> list[float]:
    """Median seconds of each function; they take turns, so that a slow moment of the machine hits all."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for taken, function in zip(seconds, functions, strict=True):
            taken.append(seconds_of(function, device))
    return [statistics.median(taken) for taken in seconds]


def seconds_of(function: Callable[[], object], device: torch.device | None = None) -> float:
    """Of one call: between two events on a GPU, by the clock elsewhere."""
    if device is None or device.type != "cuda":
        started = time.perf_counter()
        function()
        return time.perf_counter() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    function()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1000


def synchronize(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def count_flops(function: Callable[[], T]) -> tuple[T, int]:
    """What the call returns, and its operations: two for each multiplication in a product or convolution."""
    # PyTorch's counter does not know the name that attention has on a CPU.
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={attention: _attention_flops}) as counter:
        result = function()
    return result, counter.get_total_flops()


def _attention_flops(query: Sequence[int], key: Sequence[int], *arguments, **keywords) -> int:
    batch, heads, queries, width = query
    return 4 * batch * heads * queries * key[2] * width
