"""`star-hf probe`: one small generator on each autoencoder's latents tells which are easy to generate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from star_hf.cli import options, sources
from star_hf.cli.console import Reporter, Stopwatch
from star_hf.cli.runtime import choose_device, fast_imports, keep_freed_memory


def probe(
    vaes: sources.Autoencoders,
    dataset: sources.DataSet,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder of the report; what it has is not done again.", file_okay=False
        ),
    ] = Path("probe"),
    budgets: Annotated[
        str, typer.Option("--budgets", help="Training steps at which each run is judged, with commas.")
    ] = "200,800",
    seeds: Annotated[str, typer.Option("--seeds", help="With commas; each is a run of its own.")] = "0,1",
    generators: Annotated[
        str, typer.Option("--generators", help="star-gen, dit, or both with a comma.")
    ] = "star-gen",
    split: Annotated[str, typer.Option("--split", help="Of the data set.")] = "train",
    audio_column: Annotated[str, typer.Option("--audio-column", help="Of the data set.")] = "audio",
    text_column: Annotated[
        str | None,
        typer.Option("--text-column", help="Captions.", show_default="text, else the labels"),
    ] = None,
    without_text: Annotated[
        bool, typer.Option("--without-text", help="Go on where the data set has no captions.")
    ] = False,
    label_column: Annotated[
        str | None,
        typer.Option(
            "--label-column",
            help="For the labels of what is generated.",
            show_default="label, if there is one",
        ),
    ] = None,
    key_column: Annotated[
        str | None,
        typer.Option(
            "--key-column", help="Clips that share a value are held out together.", show_default="each file"
        ),
    ] = None,
    held_out: Annotated[
        float, typer.Option("--held-out", help="Share of the recordings that no generator trains on.")
    ] = 0.15,
    max_clips: Annotated[
        int | None,
        typer.Option("--max-clips", min=2, help="Drawn from the data set.", show_default="all"),
    ] = None,
    max_seconds: Annotated[
        float,
        typer.Option(
            "--max-seconds", help="Longer recordings are cut into clips.", callback=options.positive
        ),
    ] = 10.0,
    generated_clips: Annotated[
        int, typer.Option("--generated-clips", min=1, help="Judged at each budget.")
    ] = 100,
    kept_clips: Annotated[int, typer.Option("--kept-clips", min=0, help="Of them, to listen to.")] = 10,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Clips in a training step.")] = 16,
    hidden_size: Annotated[int, typer.Option("--hidden-size", min=2, help="Of the generator.")] = 192,
    layers: Annotated[int, typer.Option("--layers", min=1, help="Of the generator.")] = 4,
    heads: Annotated[int, typer.Option("--heads", min=1, help="Of the generator.")] = 3,
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder",
            help="Folder or Hub id of a transformers audio model for the distances.",
            show_default="log-mel statistics",
        ),
    ] = None,
    precision: Annotated[str, typer.Option("--precision", help="bf16 or float32.")] = "bf16",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of held-out clips and of the judging.")] = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Train one small generator on the latents of each autoencoder and rank them: a page and JSON."""
    sources.check_dataset(dataset)
    named = sources.name_autoencoders(vaes)
    lists: dict[str, Any] = {
        "budgets": _numbers(budgets, "--budgets"),
        "seeds": _numbers(seeds, "--seeds"),
        "generators": tuple(name.replace("-", "_") for name in _names(generators)),
    }
    reporter, clock = Reporter(as_json), Stopwatch()
    with fast_imports():
        from star_hf import probe as library
        from star_hf.audit import common_rate, load_codec
        from star_hf.cli.models import quiet_libraries
        from star_hf.data import load_audio_dataset
        from star_hf.probe.page import write_report
        from star_hf.probe.ranking import rank
        from star_hf.probe.records import Records

    quiet_libraries()
    chosen_device = choose_device(device)
    keep_freed_memory()
    with clock.phase("opening"):
        folders = sources.inspect_autoencoders(named)
        settings = library.ProbeSettings(
            **lists,
            batch_size=batch_size,
            max_seconds=max_seconds,
            max_clips=max_clips,
            held_out_fraction=held_out,
            num_generated=generated_clips,
            kept_clips=kept_clips,
            hidden_size=hidden_size,
            num_layers=layers,
            num_heads=heads,
            precision=precision,
            embedder=embedder,
            metric_rate=common_rate([folder.sampling_rate for folder in folders.values()]),
            device=str(chosen_device),
            seed=seed,
        )
        rows: Any = load_audio_dataset(dataset, split, audio_column=audio_column)
        clips = library.open_clips(
            rows,
            settings,
            name=dataset,
            audio_column=audio_column,
            text_column=text_column,
            label_column=label_column,
            key_column=key_column,
        )
        if not clips.has_captions and not without_text:
            raise ValueError(
                f"{dataset}: has no captions and no labels to generate from; its columns are "
                f"{', '.join(rows.column_names)}. --text-column names one, --without-text goes on without."
            )
        output.mkdir(parents=True, exist_ok=True)
        for bad in clips.bad_files:
            reporter.warn(f"{bad.name}: {bad.reason}")
    with clock.phase("judge"):
        judge = library.Judge(clips, settings, progress=reporter.progress)

    entries: dict[str, Any] = {}
    document: dict[str, Any] = {}
    for name, folder in folders.items():
        with clock.phase(name):
            with reporter.progress(f"loading {name}", 1):
                codec = load_codec(folder, chosen_device)
            missing = _missing(reporter, Records.of(output, name, codec, clips, settings), settings, name)
            entries[name] = library.probe_codec(
                codec, name, clips, settings, output, judge=judge, progress=reporter.progress
            )
            del codec
        # An interrupted comparison leaves the page of the autoencoders that are done.
        if missing or len(entries) == len(folders):
            with clock.phase("writing"):
                document = rank(library.assemble_document(entries, clips, settings, judge, output))
                page = write_report(document, output)
    _show(reporter, document)
    reporter.note(str(clock))
    reporter.result(str(page))
    reporter.document({"page": str(page), **document, "time": clock.rounded()})


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _numbers(text: str, option: str) -> tuple[int, ...]:
    names = _names(text)
    if not all(name.isdecimal() for name in names):
        raise typer.BadParameter(f"'{text}' must be whole numbers with commas.", param_hint=option)
    return tuple(map(int, names))


def _missing(reporter: Reporter, records: Any, settings: Any, name: str) -> list[str]:
    """The runs that are not in the folder yet; says which ones are.

    Raises `ValueError` where they were made from something else.
    """
    runs = [f"{generator}-seed{seed}" for generator in settings.generators for seed in settings.seeds]
    finished = [run for run in runs if records.load(run) is not None]
    if finished:
        reporter.note(f"{name}: {', '.join(finished)} is there already")
    return [run for run in runs if run not in finished]


def _show(reporter: Reporter, document: dict[str, Any]) -> None:
    from star_hf.probe.report_text import correlation_lines, generator_name, ranking_lines, summary

    for line in [*ranking_lines(document), *correlation_lines(document)]:
        reporter.result(line)
    for generator, sentences in summary(document).items():
        reporter.result(f"{generator_name(generator)}: {' '.join(sentences)}")
