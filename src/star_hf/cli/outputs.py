"""Where a command writes: one file, numbered files, or a folder of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import typer

FORMATS = ("wav", "flac")


def plan_outputs(output: str, names: Sequence[str], format: str | None) -> list[Path]:
    """One file for each of `names`.

    `out.wav` stays one file, or becomes `out_000.wav`, `out_001.wav`, …. A folder, that is one that exists or
    a path that ends in a slash, gets `<name>.wav`. Without a suffix `format` supplies it, wav by default.
    Raises `typer.BadParameter` for a format that is not written, or that disagrees with the suffix.
    """
    if format not in (None, *FORMATS):
        raise typer.BadParameter(f"'{format}' is not one of {', '.join(FORMATS)}.", param_hint="--format")
    path = Path(output).expanduser()
    if path.is_dir() or _names_folder(output):
        names = names if len(set(names)) == len(names) else _numbers(names)
        return [path / f"{name}.{format or FORMATS[0]}" for name in names]

    suffix = path.suffix.lower().lstrip(".")
    if suffix and suffix not in FORMATS:
        raise typer.BadParameter(f"'{output}' must end in .wav or .flac.", param_hint="--output")
    if suffix and format not in (None, suffix):
        raise typer.BadParameter(f"'{output}' and --format {format} disagree.", param_hint="--output")
    stem, ending = (path.stem if suffix else path.name), suffix or format or FORMATS[0]
    if not stem:
        raise typer.BadParameter(f"'{output}' names no file.", param_hint="--output")
    if len(names) == 1:
        return [path.with_name(f"{stem}.{ending}")]
    return [path.with_name(f"{stem}_{number}.{ending}") for number in _numbers(names)]


def prepare_outputs(output: str, paths: Sequence[Path]) -> None:
    """Make the folder that `output` names, and raise `OSError` if one of `paths` cannot be written."""
    from star_hf.audio import check_writable

    if _names_folder(output):
        Path(output).expanduser().mkdir(parents=True, exist_ok=True)
    for path in paths:
        check_writable(path)


def _names_folder(output: str) -> bool:
    return output.endswith(("/", os.sep))


def _numbers(names: Sequence[str]) -> list[str]:
    return [f"{index:03d}" for index in range(len(names))]
