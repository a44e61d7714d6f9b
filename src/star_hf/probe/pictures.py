"""The pictures of a paired probe: SVG for its page, PNG for a model card."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from ..audit.svg import colored, one_panel
from ..evaluation.plots import draw_spectrogram, save_figure
from .ranking import LOSS_METRICS, RunTable, generators
from .report_text import generator_name, title_and_arrow

Document = Mapping[str, Any]

SEED_OFFSET = 0.05  # dots of different autoencoders stand beside each other, in steps of the axis of budgets
LOGARITHMIC_FROM = 10  # largest value over smallest
QUARTERS = ("1\n(noise)", "2", "3", "4\n(data)")
PANELS_IN_A_ROW = 3
NAME_WIDTH, TITLE_WIDTH = 22, 28  # characters beside and above a spectrogram


@dataclass(frozen=True)
class Clip:
    """A sound `(channels, samples)` at `sampling_rate` Hz, and its `title`."""

    title: str
    waveform: torch.Tensor
    sampling_rate: int


def slope_picture(table: RunTable, metric: str) -> str:
    """A metric from the smallest budget to the largest, as SVG: lines that cross are changes of rank."""
    prefix = f"slope-{table.generator}-{metric}"
    return one_panel(lambda axes: draw_slopes(axes, table, metric), prefix, len(table.reports))


def time_picture(table: RunTable) -> str:
    """The relative flow loss by quarters of time at the largest budget, as SVG."""
    budget = table.budgets[-1]

    def draw(axes: Axes) -> None:
        places = range(len(QUARTERS))
        for name, color in _colors(table).items():
            runs = [run["relative_flow_loss_by_time"] for run in table.runs(name, budget)]
            curves = [curve for curve in runs if curve is not None]
            for curve in curves:
                axes.plot(places, curve, ".", color=color, alpha=0.6)
            if curves:
                means = [sum(values) / len(values) for values in zip(*curves, strict=True)]
                axes.plot(places, means, color=color, linewidth=2, label=name)
        axes.axhline(1, color="#8c8c8c", linewidth=1, linestyle="--")
        axes.set(xlabel="quarter of the times", ylabel="relative flow loss", xticks=places)
        axes.set_xticklabels(QUARTERS)

    return one_panel(draw, f"time-{table.generator}", len(table.reports))


def prediction_picture(table: RunTable, predictor: str, budget: int | None, target: str) -> str:
    """A cheaper number (None: of the reconstruction) beside what the largest budget generates, as SVG."""
    before = table.reconstruction(predictor) if budget is None else table.scores(predictor, budget)
    after = table.scores(target, table.budgets[-1])

    def draw(axes: Axes) -> None:
        for name, color in _colors(table).items():
            if name not in before or name not in after:
                continue
            columns = [list(side[name].values()) for side in (before, after)]
            means = [sum(values) / len(values) for values in columns]
            ranges = [
                [[mean - min(values)], [max(values) - mean]]
                for mean, values in zip(means, columns, strict=True)
            ]
            axes.errorbar(*means, xerr=ranges[0], yerr=ranges[1], fmt="o", color=color, capsize=3, label=name)
        when = "of the reconstruction" if budget is None else f"after {budget} steps"
        axes.set_xlabel(f"{title_and_arrow(table.document, predictor)}, {when}")
        axes.set_ylabel(f"{title_and_arrow(table.document, target)}\nafter {table.budgets[-1]} steps")
        _scale(axes, "x", [value for values in before.values() for value in values.values()])
        _scale(axes, "y", [value for values in after.values() for value in values.values()])

    prefix = f"prediction-{table.generator}-{predictor}-{budget or 'reconstruction'}-{target}"
    return one_panel(draw, prefix, len(table.reports))


def draw_slopes(axes: Axes, table: RunTable, metric: str) -> None:
    """A dot for each seed at each budget, and a line through the means, for each autoencoder."""
    budgets, drawn = table.budgets, []
    for place, (name, color) in enumerate(_colors(table).items()):
        offset = SEED_OFFSET * (place - (len(table.reports) - 1) / 2)
        means = []
        for position, budget in enumerate(budgets):
            values = list(table.scores(metric, budget).get(name, {}).values())
            axes.plot([position + offset] * len(values), values, "o", color=color, alpha=0.5, markersize=4)
            means.append(sum(values) / len(values) if values else math.nan)
            drawn += values
        positions = [position + offset for position in range(len(budgets))]
        axes.plot(positions, means, "_-", color=color, markersize=12, linewidth=1.5, label=name)
    axes.set(ylabel=title_and_arrow(table.document, metric), xticks=range(len(budgets)))
    axes.set_xticklabels([f"{budget} steps" for budget in budgets])
    axes.set_xlim(-0.4, len(budgets) - 0.6)
    _scale(axes, "y", drawn)


def plot_ranking(document: Document, path: str | Path) -> Path:
    """Draw losses and distances of all autoencoders at all budgets into a PNG at `path`."""
    tables = [RunTable(document, generator) for generator in generators(document)]
    panels = [
        (table, metric)
        for table in tables
        for metric in table.metrics
        if metric in LOSS_METRICS or metric in table.generated
    ]
    if not panels:
        raise ValueError("`document` has no runs with a metric: there is nothing to plot.")
    columns = min(PANELS_IN_A_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(0.6 + 3.6 * columns, 0.5 + 3.0 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (table, metric) in zip(grid, panels, strict=False):
        draw_slopes(axes, table, metric)
        if len(tables) > 1:
            axes.set_title(generator_name(table.generator), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    handles = [line for line in grid[0].lines if not str(line.get_label()).startswith("_")]
    figure.legend(handles=handles, frameon=False, loc="outside lower center", ncols=4)
    return save_figure(figure, path)


def plot_spectrograms(clips: Mapping[str, Sequence[Clip]], path: str | Path) -> Path:
    """Draw a row of mel spectrograms for each name into a PNG at `path`, the same clips in each column."""
    columns = max(map(len, clips.values()), default=0)
    if columns == 0:
        raise ValueError("`clips` is empty: there is nothing to plot.")
    every = [clip for row in clips.values() for clip in row]
    seconds = max(clip.waveform.shape[-1] / clip.sampling_rate for clip in every)
    figure = Figure(figsize=(1.0 + 2.2 * columns, 0.9 + 1.7 * len(clips)), layout="constrained")
    grid = figure.subplots(len(clips), columns, squeeze=False, sharex=True)
    image = None
    for number, (name, row) in enumerate(clips.items()):
        for column, axes in enumerate(grid[number]):
            if column >= len(row):
                axes.set_axis_off()
                continue
            clip = row[column]
            image = draw_spectrogram(axes, clip.waveform, clip.sampling_rate)
            axes.set_xlim(0, seconds)
            if number == 0:
                axes.set_title(textwrap.fill(clip.title, TITLE_WIDTH), fontsize=9)
            if column == 0:
                axes.set_ylabel(
                    f"{textwrap.fill(name, NAME_WIDTH, break_on_hyphens=False)}\n[kHz]", fontsize=9
                )
            else:
                axes.set_yticklabels([])
            if number == len(clips) - 1:
                axes.set_xlabel("time [s]")
    figure.colorbar(image, ax=grid, label="level below the clip's\nloudest point [dB]", shrink=0.8, aspect=30)
    return save_figure(figure, path)


def _colors(table: RunTable) -> dict[str, str]:
    """The same for an autoencoder in the pictures of all generators."""
    colors = colored(table.document["autoencoders"])
    return {name: colors[name] for name in table.reports}


def _scale(axes: Axes, axis: str, values: Sequence[float]) -> None:
    """Logarithmic with plain numbers where the values span a decade."""
    if not values or min(values) <= 0 or max(values) < LOGARITHMIC_FROM * min(values):
        return
    getattr(axes, f"set_{axis}scale")("log")
    own = getattr(axes, f"{axis}axis")
    own.set_major_locator(LogLocator(subs=(1, 2, 5)))
    own.set_major_formatter(ScalarFormatter())
    own.set_minor_formatter(NullFormatter())
