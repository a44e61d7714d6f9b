"""Settings that a process of its own may choose, and a library must not."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import torch

# From malloc.h; the thresholds are above any activation of a few minutes of audio.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 1 << 30

DTYPES = ("float32", "bfloat16", "float16")


@contextmanager
def fast_imports() -> Iterator[None]:
    """Import without garbage collection: it would scan hundreds of thousands of objects that all stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def keep_freed_memory() -> None:
    """Let glibc keep what is freed: page faults of returned memory are 40% of the time of a large decode."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)


def choose_device(name: str) -> torch.device:
    """ "auto" is CUDA, then MPS, then the CPU. Raises `typer.BadParameter` for a device that is not there."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise typer.BadParameter(f"'{name}' cannot be used ({reason}).", param_hint="--device") from None
    return device


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """float32 on the CPU and bfloat16 elsewhere, unless `name` says so."""
    import torch

    if name is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in DTYPES:
        raise typer.BadParameter(f"'{name}' is not one of {', '.join(DTYPES)}.", param_hint="--dtype")
    return getattr(torch, name)
