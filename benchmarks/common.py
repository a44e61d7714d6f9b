"""What the benchmarks share: turns, medians, errors."""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import diffusers
import torch


def relative_error(output: torch.Tensor, reference: torch.Tensor) -> float:
    difference = torch.linalg.vector_norm(output.to(reference.dtype) - reference)
    return (difference / torch.linalg.vector_norm(reference)).item()


def time_in_turn(
    functions: list[Callable[[], object]], repeats: int, device: torch.device | None = None
) -> list[float]:
    """Median seconds of each function; they take turns, so that a slow moment of the machine hits all."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for taken, function in zip(seconds, functions, strict=True):
            synchronize(device)
            started = time.perf_counter()
            function()
            synchronize(device)
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def synchronize(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def refuse_what_is_not_positive(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, names: tuple[str, ...]
) -> None:
    for name in names:
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            parser.error(f"--{name.replace('_', '-')} must be greater than 0, got {value}")


def silence_advice() -> None:
    """Names about to change (weight norm, checkpointing) and conversions of precision are no benchmark's."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch|transformers")
    diffusers.utils.logging.set_verbosity_error()


def write_results(path: Path | None, setting: dict[str, object], results: list) -> None:
    """The numbers of a table, dataclasses, as JSON, where a file was asked for."""
    if path is not None:
        document = {"setting": setting, "results": [asdict(result) for result in results]}
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def machine() -> dict[str, object]:
    """What a measurement depends on beside its options."""
    return {
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }
