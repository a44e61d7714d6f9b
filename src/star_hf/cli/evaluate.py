"""`star-hf evaluate`: two folders of audio, measured against each other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from star_hf.cli import options
from star_hf.cli.console import Reporter
from star_hf.cli.runtime import choose_device, fast_imports

LENGTHS = ("equal", "shorter", "reference")
SHOWN_NAMES = 5


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of generated or reconstructed audio.")],
    references: Annotated[Path, typer.Argument(help="Folder of the originals, with the same file names.")],
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics", help="Names with commas, or 'none'.", show_default="five of reconstruction"
        ),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder",
            help="Also compare the two sets: folder or Hub id of a transformers audio model, openl3-env, "
            "openl3-music or passt.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the result to this file.")
    ] = None,
    allow_unpaired: Annotated[
        bool, typer.Option("--allow-unpaired", help="Measure what has a partner, and list the rest.")
    ] = False,
    resample: Annotated[
        str | None, typer.Option("--resample", help="A rate in Hz, or 'reference'; else rates must agree.")
    ] = None,
    channels: Annotated[
        str | None, typer.Option("--channels", help="A number, or 'reference'; else channels must agree.")
    ] = None,
    lengths: Annotated[
        str, typer.Option("--lengths", help="equal, shorter (cut both) or reference (cut or pad).")
    ] = LENGTHS[0],
    device: options.Device = "auto",
) -> None:
    """Measure predictions against references: each pair of files, and with an embedder both sets."""
    if lengths not in LENGTHS:
        raise typer.BadParameter(f"'{lengths}' is not one of {', '.join(LENGTHS)}.", param_hint="--lengths")
    policy = {
        "resample": _number_or_reference(resample, "--resample"),
        "channels": _number_or_reference(channels, "--channels"),
        "lengths": lengths,
    }
    reporter = Reporter(as_json=False)
    with fast_imports():
        from star_hf.evaluation.folder_evaluation import FolderEvaluation, compare_clips
        from star_hf.evaluation.reconstruction_suite import pair_folders

    names = _metric_names(metrics, embedder)
    folders = pair_folders(predictions, references)
    unpaired = {"predictions": folders.only_predictions, "references": folders.only_references}
    if names:
        _refuse_or_warn(reporter, unpaired, allow_unpaired)
        if not folders.pairs:
            raise ValueError(f"{predictions} and {references} have no file name in common.")
    if json_file is not None and not json_file.resolve().parent.is_dir():
        raise NotADirectoryError(f"{json_file}: its folder does not exist.")

    evaluation = FolderEvaluation()
    if names:
        with reporter.progress("comparing clips", len(folders.pairs)) as advance:
            compare_clips(evaluation, folders.pairs, names, policy, advance)
    if embedder is not None:
        _compare_sets(evaluation, reporter, embedder, predictions, references, device)
    _show(evaluation, reporter)
    if json_file is not None:
        settings = {"metrics": names, "embedder": embedder, **policy}
        _write_json(
            json_file,
            {
                "predictions": str(predictions),
                "references": str(references),
                "settings": settings,
                "unpaired": unpaired,
                **evaluation.to_dict(),
            },
        )
    if evaluation.errors:
        raise typer.Exit(1)


def _compare_sets(
    evaluation: Any, reporter: Reporter, embedder: str, predictions: Path, references: Path, device: str
) -> None:
    from star_hf.evaluation.folder_evaluation import compare_sets, load_embedder
    from star_hf.evaluation.reconstruction_suite import audio_files

    with reporter.progress(f"loading {embedder}", 1):
        model = load_embedder(embedder, choose_device(device))
    sides = [audio_files(folder) for folder in (predictions, references)]
    passes = 1 + (hasattr(model, "embed") and getattr(model, "classifies", False))
    with reporter.progress("embedding both sets", passes * sum(map(len, sides))) as advance:
        compare_sets(evaluation, *sides, model, advance)


def _show(evaluation: Any, reporter: Reporter) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "unit", "better")
    for column in ("mean", "std", "clips"):
        table.add_column(column, justify="right")
    for name, row in evaluation.summary().items():
        numbers = (f"{row['mean']:.4f}", f"{row['std']:.4f}", str(row["clips"]))
        table.add_row(name, row["unit"], row["better"], *numbers)
    sizes = " / ".join(str(count) for count in evaluation.set_sizes.values())
    for name, value in evaluation.sets.items():
        table.add_row(name, "", "lower", f"{value:.4f}", "", f"{sizes} windows")
    if table.row_count:
        Console().print(table)
    for message in evaluation.warnings:
        reporter.warn(message)
    if evaluation.errors:
        reporter.note(f"{len(evaluation.errors)} could not be measured:")
    for message in evaluation.errors:
        reporter.note(f"error: {message}")


def _metric_names(metrics: str | None, embedder: str | None) -> list[str]:
    from star_hf.evaluation.reconstruction_suite import DEFAULT_METRICS, check_metrics

    if metrics is None:
        return list(DEFAULT_METRICS)
    if metrics.strip() == "none":
        if embedder is None:
            raise typer.BadParameter(
                "'none' leaves nothing to do without --embedder.", param_hint="--metrics"
            )
        return []
    names = list(dict.fromkeys(name.strip() for name in metrics.split(",")))
    check_metrics(names)
    return names


def _number_or_reference(value: str | None, option: str) -> int | str | None:
    if value is None or value == "reference":
        return value
    if not value.isdecimal() or int(value) == 0:
        raise typer.BadParameter(f"'{value}' is neither a number above 0 nor 'reference'.", param_hint=option)
    return int(value)


def _refuse_or_warn(reporter: Reporter, unpaired: dict[str, tuple[str, ...]], allowed: bool) -> None:
    messages = []
    for side, names in unpaired.items():
        if names:
            more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
            messages.append(f"only in the {side} ({len(names)}): {', '.join(names[:SHOWN_NAMES])}{more}")
    if messages and not allowed:
        raise ValueError(f"{'; '.join(messages)}. --allow-unpaired measures the others.")
    for message in messages:
        reporter.warn(message)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
