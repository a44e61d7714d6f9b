"""`star-hf audit`: what the latents of autoencoders carry, as a page to read and as JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from star_hf.cli import options, sources
from star_hf.cli.command_line import command_line
from star_hf.cli.console import Reporter, Stopwatch
from star_hf.cli.runtime import choose_device, fast_imports, keep_freed_memory

PAGE, DOCUMENT = "index.html", "audit.json"
DEFAULT_LABEL, DEFAULT_FOLD = "label", "fold"


def audit(
    vaes: sources.Autoencoders,
    dataset: sources.DataSet,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the report.", file_okay=False)
    ] = Path("audit"),
    split: Annotated[str, typer.Option("--split", help="Of the data set.")] = "train",
    audio_column: Annotated[str, typer.Option("--audio-column", help="Of the data set.")] = "audio",
    label_column: Annotated[
        str | None,
        typer.Option("--label-column", help="For the linear probe.", show_default="label, if there is one"),
    ] = None,
    fold_column: Annotated[
        str | None,
        typer.Option(
            "--fold-column", help="Groups that are judged together.", show_default="fold, if there is one"
        ),
    ] = None,
    max_clips: Annotated[
        int | None, typer.Option("--max-clips", min=1, help="Drawn from the data set.", show_default="all")
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            "--max-seconds", help="Of each clip.", show_default="whole clips", callback=options.positive
        ),
    ] = None,
    piece_seconds: Annotated[
        float,
        typer.Option(
            "--piece-seconds", help="Encoded at once; longer clips go in pieces.", callback=options.positive
        ),
    ] = 30.0,
    decoded_clips: Annotated[
        int, typer.Option("--decoded-clips", min=0, help="For the curves of the decoder; 0 skips them.")
    ] = 8,
    decoded_seconds: Annotated[
        float,
        typer.Option("--decoded-seconds", help="Of each clip that is decoded.", callback=options.positive),
    ] = 5.0,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Draw the page's pictures.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of clips, folds and noise.")] = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Measure the latents and decoders of audio autoencoders: a page and JSON in one folder."""
    sources.check_dataset(dataset)
    named = sources.name_autoencoders(vaes)
    reporter, clock = Reporter(as_json), Stopwatch()
    with fast_imports():
        from star_hf import audit as library
        from star_hf.cli.models import quiet_libraries
        from star_hf.data import load_audio_dataset

    quiet_libraries()
    chosen_device = choose_device(device)
    keep_freed_memory()
    settings = library.AuditSettings(
        max_clips=max_clips,
        max_seconds=max_seconds,
        piece_seconds=piece_seconds,
        decoded_clips=decoded_clips,
        decoded_seconds=decoded_seconds,
        residuals=pictures,
        seed=seed,
    )
    with clock.phase("opening"):
        folders = sources.inspect_autoencoders(named)
        rows: Any = load_audio_dataset(dataset, split, audio_column=audio_column)
        labels = _labels(rows, label_column, fold_column)
    output.mkdir(parents=True, exist_ok=True)
    clips = library.ClipReader(rows, audio_column, max_seconds, piece_seconds)
    metric_rate = library.common_rate([folder.sampling_rate for folder in folders.values()])
    run = library.describe_run(
        settings, command=command_line(sys.argv[1:]), dataset=dataset, split=split, num_rows=len(rows)
    )

    results: dict[str, Any] = {}
    for name, folder in folders.items():
        with clock.phase(name):
            with reporter.progress(f"loading {name}", 1):
                codec = library.load_codec(folder, chosen_device)
            results[name] = library.audit_codec(
                codec,
                clips,
                settings,
                name=name,
                labels=labels,
                metric_rate=metric_rate,
                progress=reporter.progress,
            )
            del codec
        report = results[name].report
        for bad in report["bad_files"]:
            reporter.warn(f"{name}: {bad['name']}: {bad['reason']}")
        reporter.result(_as_text(name, report))
        # After each autoencoder: an interrupted comparison leaves the page of those that are done.
        with clock.phase("writing"):
            document = {**run, "autoencoders": {done: result.report for done, result in results.items()}}
            library.write_json(document, output / DOCUMENT)
            residuals = {done: result.residuals for done, result in results.items()}
            library.write_page(document, output / PAGE, residuals, pictures=pictures)
    reporter.note(str(clock))
    reporter.result(str(output / PAGE))
    reporter.document({"page": str(output / PAGE), **document, "time": clock.rounded()})


def _labels(rows: Any, label_column: str | None, fold_column: str | None) -> Any:
    """The columns for the linear probe, or None; a column that was asked for must be there."""
    from star_hf.audit import Labels

    for option, column in (("--label-column", label_column), ("--fold-column", fold_column)):
        if column is not None and column not in rows.column_names:
            listing = ", ".join(rows.column_names)
            raise typer.BadParameter(f"'{column}' is not among the columns {listing}.", param_hint=option)
    label = label_column or (DEFAULT_LABEL if DEFAULT_LABEL in rows.column_names else None)
    fold = fold_column or (DEFAULT_FOLD if DEFAULT_FOLD in rows.column_names else None)
    if label is None:
        return None
    return Labels(list(rows[label]), None if fold is None else list(rows[fold]))


def _as_text(name: str, report: dict[str, Any]) -> str:
    latents, decoder = report["latents"], report["decoder"]
    parts = [
        f"{name}  {report['num_clips']} clips, {report['seconds'] / 60:.1f} min",
        f"{latents['effective_dimensions']} of {latents['channels']} dimensions",
    ]
    if latents["profile"]["rate_kbps"] is not None:
        parts.append(f"{latents['profile']['kind']} {latents['profile']['rate_kbps']:.1f} kbit/s")
    if decoder is not None:
        parts.append(f"STFT distance {decoder['truncation_head']['stft'][-1]:.3f}")
    if report["probe"] and report["probe"]["accuracy"] is not None:
        parts.append(f"probe {report['probe']['accuracy']:.1%}")
    return "  ".join(parts)
