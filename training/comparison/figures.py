"""The comparison's pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from comparison.metrics import METRICS
from comparison.recipes import CONTROL
from star_hf.evaluation.plots import save_figure
from study.pictures import PALETTE, STYLE, finish_axes

POINT, REFERENCE = PALETTE[:2]
COLUMNS = 4


def plot_comparison(document: Mapping[str, Any], path: Path) -> Path:
    """One panel for each metric: a dot for each method, a line at the control, a band of its threshold."""
    methods = document["methods"]
    names = [CONTROL, *(name for name in methods if name != CONTROL)]
    rows = -(-len(METRICS) // COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * COLUMNS + 1, rows * (0.9 + 0.22 * len(names))), layout="constrained")
        grid = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True)
        for axes, metric in zip(grid.flat, METRICS.values(), strict=False):
            reference, limit = methods[CONTROL]["metrics"][metric.key], document["thresholds"][metric.key]
            if reference is not None:
                axes.axvspan(reference - limit, reference + limit, color=REFERENCE, alpha=0.2, linewidth=0)
                axes.axvline(reference, color=REFERENCE, linewidth=1.2)
            places = {
                place: methods[name]["metrics"][metric.key]
                for place, name in enumerate(names)
                if methods[name]["metrics"][metric.key] is not None
            }
            axes.plot(list(places.values()), list(places), "o", color=POINT, markersize=4.5)
            arrow = {"less": " (less is better)", "more": " (more is better)", None: ""}[metric.better]
            axes.set_title(metric.label + arrow, fontsize=9)
            finish_axes(axes)
        for axes in list(grid.flat)[len(METRICS) :]:
            axes.set_axis_off()
        grid[0, 0].set_yticks(range(len(names)), names)
        grid[0, 0].set_ylim(len(names) - 0.5, -0.5)
        return save_figure(figure, path)


def plot_rate_distortion(sweep: Mapping[str, Any], path: Path) -> Path:
    """Distortion over the measured rate in two panels, the rate logarithmic; the target beside each point."""
    points = sorted(sweep["points"], key=lambda point: point["metrics"]["rate_kbps"])
    rates = [point["metrics"]["rate_kbps"] for point in points]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.5, 3.4), layout="constrained")
        for axes, key in zip(figure.subplots(1, 2), ("stft_distance", "mel_distance"), strict=True):
            values = [point["metrics"][key] for point in points]
            axes.plot(rates, values, "o-", color=POINT, linewidth=1.5, markersize=5)
            axes.set_xscale("log")
            axes.set_xticks([point["target_kbps"] for point in points])
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set(xlabel="measured rate [kbit/s]; ticks at the targets", ylabel=METRICS[key].title)
            finish_axes(axes)
        return save_figure(figure, path)
