"""What the benchmarks share: their command line, and how far outputs are apart."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import diffusers
import torch
import transformers
from machine import describe_machine, matrix_product_rate
from measurements import Report, write_report
from table import console_table

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def relative_error(output: torch.Tensor, reference: torch.Tensor) -> float:
    difference = torch.linalg.vector_norm(output.to(reference) - reference)
    return (difference / torch.linalg.vector_norm(reference)).item()


def largest_error(output: torch.Tensor, reference: torch.Tensor) -> float:
    """The largest difference, relative to the largest value of the reference."""
    return ((output.to(reference) - reference).abs().max() / reference.abs().max()).item()


def require_agreement(what: str, error: float, tolerance: float, others: str) -> None:
    """Raise `ValueError` where outputs are further apart than that: what differs is not worth timing."""
    if not error <= tolerance:
        raise ValueError(
            f"{what} differs from {others} by {error:.1e} (relative), at most {tolerance:.0e} is allowed."
        )


def refuse_what_is_not_positive(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, names: tuple[str, ...]
) -> None:
    for name in names:
        value = getattr(arguments, name)
        for number in value if isinstance(value, list) else [value]:
            if number is not None and not number > 0:
                parser.error(f"--{name.replace('_', '-')} must be greater than 0, got {number}")


def silence_advice() -> None:
    """Names about to change, checkpointing, kernels that are not installed: no benchmark's business."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch|transformers")
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def available_devices(wanted: list[str] | None = None) -> list[torch.device]:
    """The CPU, and the GPU where there is one. Raises `ValueError` for a GPU that is not there."""
    has_gpu = torch.cuda.is_available()
    names = wanted or (["cpu", "cuda"] if has_gpu else ["cpu"])
    if "cuda" in names and not has_gpu:
        raise ValueError("--devices cuda: PyTorch sees no GPU here.")
    return [torch.device(name) for name in names]


def run_benchmark(
    description: str | None,
    measure: Callable[[argparse.Namespace], Report],
    add_options: Callable[[argparse.ArgumentParser], None],
    argv: list[str] | None = None,
    positive: tuple[str, ...] = (),
) -> None:
    """The `main` of a benchmark: read the options, measure, print the table, write the JSON.

    Args:
        description: for `--help`.
        measure: what to do; a `ValueError` ends the script with its message.
        add_options: adds the benchmark's own options.
        positive: names of options of its own that must be greater than 0.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument(
        "--devices", nargs="+", choices=["cpu", "cuda"], help="[the CPU, and a GPU where there is one]"
    )
    parser.add_argument("--threads", type=int, help="PyTorch's threads [its own choice]")
    parser.add_argument("--tiny", action="store_true", help="small models, for a look at the script itself")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments = parser.parse_args(argv)
    refuse_what_is_not_positive(parser, arguments, (*positive, "threads"))
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)

    silence_advice()
    try:
        arguments.devices = available_devices(arguments.devices)
        report = measure(arguments)
    except ValueError as error:
        sys.exit(f"error: {error}")
    report.setting = {"threads": torch.get_num_threads(), **report.setting}
    print(", ".join(f"{name} {value}" for name, value in report.setting.items()))
    if report.measurements:
        print(console_table(report.measurements))
    for remark in report.remarks:
        print(remark)
    if arguments.json is not None:
        write_report(arguments.json, report, machine=describe_machine())


def measure_rates(devices: list[torch.device], precisions: list[str], tiny: bool) -> dict[str, float]:
    """Matrix products per second, for `Report.rates`."""
    sizes = (128,) if tiny else ()
    return {
        f"{device.type} {precision}": matrix_product_rate(device, DTYPES[precision], sizes)
        for device in devices
        for precision in precisions
    }
