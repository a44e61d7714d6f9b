"""A paired probe as a folder to read: one HTML page, its JSON, and pictures for a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..audit import write_json
from ..audit.html_frame import figure_html, grid_html, html_page, provenance_html
from ..audit.writing import write_text
from .listening import LISTENING_CSS, drawn_clips, players_html, spectrograms_html
from .page_tables import TABLES_CSS, correlations_html, ranking_html, table_html
from .ranking import LOSS_METRICS, RunTable, generators
from .report_text import counted, generator_name, listed, summary

Document = Mapping[str, Any]

PAGE, DOCUMENT, RANKING, SPECTROGRAMS = "index.html", "probe.json", "ranking.png", "spectrograms.png"


def write_report(document: Document, folder: str | Path) -> Path:
    """Write page, JSON and pictures of a probe into its folder; returns the path of the page.

    Args:
        document: that `rank` gave.
        folder: that of the probe, in which the clips lie that the document names.
    """
    from .pictures import plot_ranking, plot_spectrograms

    folder = Path(folder)
    write_json(dict(document), folder / DOCUMENT)
    plot_ranking(document, folder / RANKING)
    clips = drawn_clips(document, folder)
    spectrograms = plot_spectrograms(clips, folder / SPECTROGRAMS) if clips else None
    return write_page(document, folder / PAGE, spectrograms)


def write_page(document: Document, path: str | Path, spectrograms: Path | None = None) -> Path:
    """Write the page of a document that `rank` gave.

    Clips are links, relative to the page; the PNG `spectrograms` becomes a part of the page.
    """
    parts = [_summary(document), _introduction(document)]
    for generator in generators(document):
        table = RunTable(document, generator)
        parts += [
            _heading("Ranking", table),
            ranking_html(table),
            *_curves(table),
            _heading("What predicts what", table),
            correlations_html(table),
            _predictions(table),
        ]
    parts += [players_html(document), "" if spectrograms is None else spectrograms_html(spectrograms)]
    parts += [_bad_files(document), provenance_html(document)]
    title = f"Paired probe: {', '.join(document['autoencoders'])}"
    return write_text(path, html_page(title, parts, TABLES_CSS + LISTENING_CSS))


def _heading(title: str, table: RunTable) -> str:
    several = len(generators(table.document)) > 1
    return f"<h2>{title}{f': {escape(generator_name(table.generator))}' if several else ''}</h2>"


def _summary(document: Document) -> str:
    parts = []
    for generator, sentences in summary(document).items():
        name = f"<b>{escape(generator_name(generator))}</b>" if len(document["ranking"]) > 1 else ""
        parts.append(f"{name}<ul>{''.join(f'<li>{escape(text)}</li>' for text in sentences)}</ul>")
    return "\n".join(parts)


def _introduction(document: Document) -> str:
    settings = document["settings"]
    names = listed(generator_name(generator) for generator in generators(document))
    text = (
        f"A small generator ({escape(names)}), the same for all, was trained on each autoencoder's latents "
        f"of <b>{escape(str(settings['dataset']))}</b>, {counted(settings['training_clips'], 'clip')} and "
        f"{settings['held_out_clips']} held out, from {counted(len(settings['seeds']), 'seed')} and for "
        f"{listed(str(budget) for budget in settings['budgets'])} steps. A run to a smaller budget is the "
        "first part of the run to the largest. Sounds are compared in the embedding of "
        f"{escape(str(settings['embedder']))}."
    )
    head = ["", "class", "latents", "posterior", "parameters", "generator", "training"]
    rows = [
        [
            name,
            f"{report['class_name']}, {report['sampling_rate']} Hz",
            f"{report['latent_channels']} channels, {report['frame_rate']:.2f} frames/s",
            report["posterior"],
            _count(report["parameters"]),
            f"{generator_name(generator)}, {_count(probed['generator_parameters'])} parameters",
            _training_time(probed["runs"]),
        ]
        for name, report in document["autoencoders"].items()
        for generator, probed in report["generators"].items()
    ]
    return f"<p>{text}</p>\n{table_html(head, rows)}"


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters / 1e3:.1f} k"


def _training_time(runs: Sequence[Mapping[str, Any]]) -> str:
    """Of one seed to the largest budget."""
    largest = max(run["budget"] for run in runs)
    seconds = [run["training_seconds"] for run in runs if run["budget"] == largest]
    return f"{sum(seconds) / len(seconds):.0f} s a seed"


def _curves(table: RunTable) -> list[str]:
    # matplotlib is needed for the pictures only
    from . import pictures

    shown = [metric for metric in table.metrics if metric in LOSS_METRICS or metric in table.generated]
    slopes = [pictures.slope_picture(table, metric) for metric in shown]
    parts = [_heading("From budget to budget", table), grid_html(slopes, _SLOPES)]
    if "relative_flow_loss" in table.metrics:
        picture = figure_html(pictures.time_picture(table), _TIME)
        parts += [_heading("Where in time the loss is", table), picture]
    return parts


def _predictions(table: RunTable) -> str:
    """A loss, and the reconstruction, beside the first metric of what the largest budget generates."""
    from .pictures import prediction_picture

    losses = [metric for metric in LOSS_METRICS if metric in table.metrics]
    if len(table.reports) < 2 or not table.generated or not losses:
        return ""
    target = table.generated[0]
    pictures = [
        prediction_picture(table, losses[-1], table.budgets[0], target),
        prediction_picture(table, target, None, target),
    ]
    return grid_html(pictures, _PREDICTION)


def _bad_files(document: Document) -> str:
    bad = document.get("bad_files")
    if not bad:
        return ""
    listing = "".join(f"<li>{escape(file['name'])}: {escape(file['reason'])}</li>" for file in bad)
    return f"<h2>Files that were left out ({len(bad)})</h2><ul>{listing}</ul>"


_SLOPES = (
    "Each dot is one seed, each line goes through the means. Lines that cross between two budgets are "
    "autoencoders that change places: there the smaller budget does not tell what the larger one will."
)
_TIME = (
    "The relative flow loss in each quarter of the training times, from almost pure noise (1) to almost "
    "clean latents (4), at the largest budget. At the dashed line the generator knows nothing beyond each "
    "number by itself. A low left end is a coarse structure that is easy to guess, a low right end detail "
    "that follows from its surroundings."
)
_PREDICTION = (
    "To the right, what is known early: a loss on latents after the smallest budget, and the reconstruction. "
    "Upwards, what the largest budget generates. Bars are the ranges over the seeds. The nearer the points "
    "are to one rising line, or a falling one where the arrows differ, the better the prediction."
)
