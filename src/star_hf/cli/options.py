"""Options that several commands share, and checks of numbers that Typer cannot express."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from star_hf.cli.outputs import FORMATS
from star_hf.cli.runtime import DTYPES


def finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def positive(value: float | None) -> float | None:
    finite(value)
    if value is not None and value <= 0:
        raise typer.BadParameter(f"{value:g} is not greater than 0.")
    return value


Output = Annotated[
    str, typer.Option("--output", "-o", help="File, or folder (existing, or ending in /) for numbered files.")
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Folder or Hub id.", show_default="embedded checkpoint")
]
Format = Annotated[
    str | None, typer.Option("--format", help=" or ".join(FORMATS) + ".", show_default="the suffix, else wav")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps, …")]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help=", ".join(DTYPES) + ".", show_default="float32 on CPU, bfloat16 elsewhere"),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
