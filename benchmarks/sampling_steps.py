"""How long a sampling takes when only some of its steps are run: all steps do the same work."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from timing import synchronize

#: A run of so many steps that calls the clock at the end of each.
Run = Callable[[int, Callable[[], None]], object]


def sampling_seconds(run: Run, timed_steps: int, steps: int, device: torch.device) -> float:
    """Seconds of `steps` steps: those of `timed_steps`, and the median of these for every further one."""
    ends: list[float] = []

    def clock() -> None:
        synchronize(device)
        ends.append(time.perf_counter())

    synchronize(device)
    started = time.perf_counter()
    run(timed_steps, clock)
    synchronize(device)
    taken = time.perf_counter() - started
    if steps == timed_steps:
        return taken
    between = [end - start for start, end in zip(ends[:-1], ends[1:], strict=True)]
    return taken + (steps - timed_steps) * statistics.median(between)


def sampling_in_turn(
    sides: list[list[Run]], timed_steps: int, steps: int, repeats: int, device: torch.device
) -> list[float]:
    """Medians of the seconds of each side, which are those of all its runs together; sides take turns."""
    seconds = [
        [sum(sampling_seconds(run, timed_steps, steps, device) for run in runs) for runs in sides]
        for _ in range(repeats)
    ]
    return [statistics.median(taken) for taken in zip(*seconds, strict=True)]


def timed_steps_of(wanted: int | None, steps: int, device: torch.device, on_cpu: int) -> int:
    """How many steps are run: as many as wanted, by default all on a GPU, and at least two for a median."""
    chosen = wanted or (steps if device.type == "cuda" else on_cpu)
    return min(max(chosen, 2), steps)
