"""Memory: the most that a call takes, measured in a process that has done nothing else."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import psutil
import torch
from common import silence_advice
from timing import synchronize

T = TypeVar("T")


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[int]]:
    """Yields a list that afterwards holds the most bytes in use at any time."""
    peak: list[int] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.append(torch.cuda.max_memory_allocated(device))
        return
    process, done = psutil.Process(), threading.Event()
    samples = [process.memory_info().rss]

    def watch() -> None:
        while not done.wait(0.002):
            samples.append(process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
    peak.append(max(samples))


def peak_above(function: Callable[[], T], device: torch.device) -> tuple[T, int]:
    """What a call returns, and the bytes that it takes at most above what the process holds before it.

    The result is counted; so is what the call leaves behind.
    """
    release_freed_memory()
    with peak_memory(device) as before:
        synchronize(device)
    with peak_memory(device) as peak:
        result = function()
        synchronize(device)
    return result, peak[0] - before[0]


def release_freed_memory() -> None:
    """Give back what is freed, so that it does not hide what the next call takes."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function of a module returns in a fresh process with as many threads.

    Raises `ValueError` where the function does, or when the process ends without an answer.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_send, args=(sender, torch.get_num_threads(), function, arguments), daemon=True
    )
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        raise ValueError(f"the process of {function.__name__}{arguments} ended early, see above.") from None
    finally:
        process.join()
    if isinstance(answer, ValueError):
        raise answer
    return answer


def _send(sender: Connection, threads: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    silence_advice()
    torch.set_num_threads(threads)
    try:
        sender.send(function(*arguments))
    except ValueError as error:
        sender.send(error)
