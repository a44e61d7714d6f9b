"""The picture of the errors by frequency band: of each method, and what STAR changes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.pictures import GREY, PALETTE, finish_axes
from tables.band_comparison import NOISE_DIFFERENCE
from tables.columns import BACKBONE_NAMES, regularizer_name
from tables.documents import Documents
from tables.panels import COLORS, backbones_of, draw_seeds, visible_under_another
from tables.paper import Method

Bands = Sequence[tuple[float, float]]


def band_errors(documents: Documents, methods: list[Method]) -> Figure:
    """Errors of the bands, and below how much higher they are with STAR; a column for each backbone."""
    backbones = backbones_of(methods)
    figure = Figure(figsize=(1 + 4.5 * len(backbones), 5.6), layout="constrained")
    grid = figure.subplots(2, len(backbones), squeeze=False, sharey="row", height_ratios=(3, 2))
    for (errors, change), backbone in zip(grid.T, backbones, strict=True):
        own = [method for method in methods if method[0] == backbone]
        bands = list(documents.band_errors(own[0]))
        for method in own:
            _draw_errors(errors, documents, method)
        errors.axhline(NOISE_DIFFERENCE, color=GREY, linestyle=":", label="two noises of one spectrum")
        errors.set_ylim(0, None)
        errors.legend(frameon=False, fontsize=8, loc="lower left")
        errors.set_title(BACKBONE_NAMES[backbone], fontsize=10)
        if {(backbone, "star"), (backbone, "isotropic")} <= set(own):
            _draw_change(change, documents, backbone)
        for axes in (errors, change):
            _mark_bands(axes, bands)
            finish_axes(axes)
        change.set_xlabel("frequency [kHz]")
    grid[0, 0].set_ylabel("error [dB]")
    grid[1, 0].set_ylabel("STAR minus\nisotropic KL [dB]")
    return figure


def banded(documents: Documents) -> list[Method]:
    """The methods of Table 1 whose errors by band have been measured."""
    return [method for method in documents.rows("table1") if documents.band_errors(method)]


def _draw_errors(axes: Axes, documents: Documents, method: Method) -> None:
    by_band = documents.band_errors(method).values()
    draw_seeds(
        axes,
        _centres(len(by_band)),
        np.transpose([values.values for values in by_band]),
        marker="o",
        color=COLORS[method[1]],
        label=regularizer_name(method[1]),
        **visible_under_another(method),
    )


def _draw_change(axes: Axes, documents: Documents, backbone: str) -> None:
    """A dot for each seed that both have, and a line through the means."""
    star, isotropic = (
        list(documents.band_errors((backbone, name)).values()) for name in ("star", "isotropic")
    )
    seeds = [seed for seed in star[0].by_seed if seed in isotropic[0].by_seed]
    changes = np.array(
        [
            [
                first.by_seed[seed] - second.by_seed[seed]
                for first, second in zip(star, isotropic, strict=True)
            ]
            for seed in seeds
        ]
    )
    axes.axhline(0, color=GREY, linewidth=1)
    if not seeds:
        return
    centres = _centres(len(star))
    for change in changes:
        axes.plot(centres, change, "o", color=PALETTE[0], markerfacecolor="none", markersize=5)
    axes.plot(centres, changes.mean(axis=0), color=PALETTE[0], linewidth=1.5)


def _centres(bands: int) -> np.ndarray:
    return np.arange(bands) + 0.5


def _mark_bands(axes: Axes, bands: Bands) -> None:
    """Bands are equally wide on the page; what is between two ticks is one of them."""
    edges = [low for low, _ in bands] + [bands[-1][1]]
    axes.set_xlim(0, len(bands))
    axes.set_xticks(range(len(edges)), [f"{edge / 1000:.2g}" for edge in edges])
