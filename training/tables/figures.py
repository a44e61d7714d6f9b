"""The pictures of docs/results.md."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from star_hf.evaluation.accumulation import eighth_means
from star_hf.evaluation.plots import save_figure
from study.pictures import GREY, PALETTE, STYLE, finish_axes
from tables import paper
from tables.band_figure import band_errors, banded
from tables.claims import FRECHET
from tables.columns import GENERATOR_NAMES, growth_name, method_name, regularizer_name
from tables.documents import Documents
from tables.panels import draw_seeds, panels_by_backbone, visible_under_another
from tables.paper import Method
from tables.seeds import SeedValues

LOSS = "relative_flow_loss"

Read = Callable[[Method], SeedValues | None]


@dataclass(frozen=True)
class Picture:
    """Which methods there is something to draw of, and how it is drawn of one or more."""

    methods: Callable[[Documents], list[Method]]
    draw: Callable[[Documents, list[Method]], Figure]


def draw_figures(documents: Documents, folder: Path) -> None:
    """Every picture as PNG in `folder`; one that there is nothing to draw for is removed."""
    for name, picture in FIGURES.items():
        methods = picture.methods(documents)
        if not methods:
            (folder / f"{name}.png").unlink(missing_ok=True)
            continue
        with matplotlib.rc_context(STYLE):
            save_figure(picture.draw(documents, methods), folder / f"{name}.png")


def figures_of(documents: Documents) -> set[str]:
    """The names of the pictures that there is something to draw for."""
    return {name for name, picture in FIGURES.items() if picture.methods(documents)}


def kl_profiles(documents: Documents, methods: list[Method]) -> Figure:
    """KL of each channel, thin, and of each eighth of the channels, bold; a panel for each backbone."""

    def draw(axes: Axes, method: Method, color: str) -> None:
        profiles = _profiles(documents, method)
        channels = np.arange(1, profiles.shape[1] + 1)
        axes.plot(channels, profiles.mean(axis=0), color=color, alpha=0.4, linewidth=1)
        _draw_eighths(axes, profiles, color, regularizer_name(method[1]))

    labels = {"xlabel": "latent channel", "ylabel": "KL [nats per frame]", "ylim": (0, None)}
    return panels_by_backbone(methods, draw, labels)


def truncation(documents: Documents, methods: list[Method]) -> Figure:
    """STFT distance over the share of the channels that are kept, from the head and from the tail."""

    def draw(axes: Axes, method: Method, color: str) -> None:
        for end, mark, line in (("head", "o", "-"), ("tail", "s", "--")):
            curves = _audits(documents, method, f"truncation_{end}")
            channels = np.array(curves[0]["channels"])
            axes.set_xscale("log")
            draw_seeds(
                axes,
                100 * channels / channels[-1],
                [curve["stft"] for curve in curves],
                marker=mark,
                linestyle=line,
                color=color,
                label=f"{regularizer_name(method[1])}, {'first' if end == 'head' else 'last'} channels",
                **visible_under_another(method),
            )
        shares = (2, 5, 10, 20, 50, 100)
        axes.set_xticks(shares, [str(share) for share in shares])
        axes.xaxis.set_minor_formatter(NullFormatter())

    return panels_by_backbone(methods, draw, {"xlabel": "channels kept [%]", "ylabel": "STFT distance"})


def growth(documents: Documents, methods: list[Method]) -> Figure:
    """The growth functions' KL profiles, and their STFT distances in units of γ 2's, beside the paper's."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for method, color in zip(methods, PALETTE, strict=False):
        _draw_eighths(left, _profiles(documents, method), color, growth_name(method[1]))
    left.set(xlabel="latent channel", ylabel="KL [nats per frame]", ylim=(0, None))
    left.legend(frameon=False, fontsize=8)
    _relative_distances(right, documents, methods)
    for axes in (left, right):
        finish_axes(axes)
    return figure


def rate_sweep(documents: Documents, methods: list[Method]) -> Figure:
    """Distortion, and the Fréchet distance of what is generated, over the measured rate."""
    panels: dict[str, dict[str, Read]] = {
        "STFT distance": {
            "reconstruction": lambda method: documents.values(method, "stft_distance"),
            "… with noise of 0.3": lambda method: documents.values(method, "stft_distance_noise_0.3"),
        },
        "Fréchet distance of what is generated": {
            f"{GENERATOR_NAMES[kind]}, {documents.budgets[-1]} steps": lambda method, kind=kind: (
                documents.generated(method, kind, FRECHET, documents.budgets[-1])
            )
            for kind in documents.kinds
            if set(documents.probed(kind)) & set(methods)
        },
    }
    panels = {label: curves for label, curves in panels.items() if curves}
    figure = Figure(figsize=(5 * len(panels), 3.8), layout="constrained")
    for axes, (label, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False).flat, panels.items(), strict=True
    ):
        for (name, read), color in zip(curves.items(), PALETTE, strict=False):
            _draw_over_rate(axes, documents, methods, read, color=color, label=name)
        axes.set(xlabel="measured rate [kbit/s]", ylabel=label)
        axes.legend(frameon=False, fontsize=8)
        finish_axes(axes)
    return figure


def _draw_over_rate(
    axes: Axes, documents: Documents, methods: Sequence[Method], read: Read, color: str, label: str
) -> None:
    """A dot for each seed at the mean of the rates, and a line through the means."""
    found = {documents.values(method, "rate_kbps").mean: read(method) for method in methods}
    points = {rate: values for rate, values in sorted(found.items()) if values is not None}
    means = [values.mean for values in points.values()]
    axes.plot(list(points), means, color=color, linewidth=1.5, label=label)
    for rate, values in points.items():
        axes.plot([rate] * len(values.values), values.values, "o", color=color, markersize=4.5)
    axes.set_xscale("log")
    axes.set_xticks(list(points), [f"{rate:.2g}" for rate in points])
    axes.xaxis.set_minor_formatter(NullFormatter())


def generators(documents: Documents, methods: list[Method]) -> Figure:
    """Loss and Fréchet distance of the generators on each autoencoder's latents, a dot for each seed."""
    facts = documents.generators["metrics"]
    metrics = [key for key in (LOSS, FRECHET) if key in facts]
    probed = {
        kind: [method for method in methods if method in documents.probed(kind)] for kind in documents.kinds
    }
    heights = [0.8 + 0.3 * len(those) for those in probed.values()]
    figure = Figure(figsize=(10, sum(heights) + 0.4), layout="constrained")
    grid = figure.subplots(len(probed), len(metrics), squeeze=False, sharey="row", height_ratios=heights)
    for row, (kind, those) in zip(grid, probed.items(), strict=True):
        for axes, metric in zip(row, metrics, strict=True):
            for place, method in enumerate(those):
                _draw_generators(axes, place, documents, method, kind, metric)
            axes.set_title(f"{GENERATOR_NAMES[kind]}: {facts[metric]['title']}", fontsize=9)
            finish_axes(axes)
        row[0].set_yticks(range(len(those)), [method_name(method) for method in those])
        row[0].set_ylim(len(those) - 0.5, -0.5)
    handles, labels = grid[0, -1].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique, frameon=False, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _draw_generators(
    axes: Axes, place: int, documents: Documents, method: Method, kind: str, metric: str
) -> None:
    budgets = documents.budgets
    for number, budget in enumerate(budgets):
        values = documents.generated(method, kind, metric, budget)
        if values is not None:
            hollow = number < len(budgets) - 1
            axes.plot(
                values.values,
                [place] * len(values.values),
                "o",
                color=PALETTE[0],
                markerfacecolor="none" if hollow else PALETTE[0],
                markersize=5,
                label=f"{budget} steps",
            )
    ceiling = documents.reconstructed(method, kind, metric)
    if ceiling is not None:
        axes.plot(
            ceiling.values,
            [place] * len(ceiling.values),
            "|",
            color=PALETTE[1],
            markersize=11,
            label="real clips through the autoencoder",
        )


def _relative_distances(axes: Axes, documents: Documents, methods: Sequence[Method]) -> None:
    """A dot for each seed, a diamond for the paper; in units of γ 2's own, since the data differ."""
    reference = next((method for method in methods if method[1] == "star"), methods[0])
    own = documents.values(reference, "stft_distance").mean
    of_paper = paper.TABLE4.number(paper.AUDIOCAPS, reference, "stft_distance")
    for place, method in enumerate(methods):
        values = [value / own for value in documents.values(method, "stft_distance").values]
        axes.plot(
            values,
            [place] * len(values),
            "o",
            color=PALETTE[0],
            markersize=5,
            label="here" if not place else None,
        )
        theirs = paper.TABLE4.number(paper.AUDIOCAPS, method, "stft_distance")
        if theirs is not None and of_paper is not None:
            label = f"paper, {paper.AUDIOCAPS}" if not place else None
            axes.plot(theirs / of_paper, place, "D", color=GREY, markersize=4.5, label=label)
    axes.set_yticks(range(len(methods)), [growth_name(method[1]) for method in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set(xlabel=f"STFT distance over that of {growth_name(reference[1])}")
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def _ablated(documents: Documents) -> list[Method]:
    """The methods of Table 1 that have a KL, after Phase I of their backbones."""
    methods = documents.rows("table1")
    phase1 = [(backbone, None) for backbone in dict.fromkeys(backbone for backbone, _ in methods)]
    return [method for method in (*phase1, *methods) if len(_profiles(documents, method))]


def _truncated(documents: Documents) -> list[Method]:
    return [method for method in documents.rows("table1") if _audits(documents, method, "truncation_head")]


def _grown(documents: Documents) -> list[Method]:
    methods = [method for method in documents.rows("table4") if len(_profiles(documents, method))]
    return methods if len(methods) > 1 else []


def _swept(documents: Documents) -> list[Method]:
    return [method for method in documents.rows("rate_sweep") if documents.values(method, "rate_kbps")]


def _profiles(documents: Documents, method: Method) -> np.ndarray:
    """KL `(seeds, channels)`; no seeds where there is none."""
    found = [run["kl_per_channel"] for run in documents.runs_of(method) if run["kl_per_channel"]]
    return np.array(found)


def _audits(documents: Documents, method: Method, key: str) -> list[Any]:
    audits = (run["audit"] or {} for run in documents.runs_of(method))
    return [audit[key] for audit in audits if audit.get(key)]


def _draw_eighths(axes: Axes, profiles: np.ndarray, color: str, label: str) -> None:
    """The mean over the seeds of each eighth's mean, and their range."""
    eighths = [eighth_means(profile.tolist()) for profile in profiles]
    channels = np.arange(1, profiles.shape[1] + 1)
    centres = [group.mean() for group in np.array_split(channels, len(eighths[0]))]
    draw_seeds(axes, centres, eighths, marker="o", markersize=4, color=color, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


FIGURES = {
    "kl_profiles": Picture(_ablated, kl_profiles),
    "truncation": Picture(_truncated, truncation),
    "band_errors": Picture(banded, band_errors),
    "growth": Picture(_grown, growth),
    "rate_sweep": Picture(_swept, rate_sweep),
    "generators": Picture(Documents.probed, generators),
}
