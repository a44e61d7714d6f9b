"""What pictures of docs/results.md share: a color for each method, a panel for each backbone, seeds."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from study.pictures import GREY, PALETTE, finish_axes
from tables.columns import BACKBONE_NAMES
from tables.paper import Method

COLORS = {"star": PALETTE[0], "isotropic": PALETTE[1], None: GREY}


def panels_by_backbone(
    methods: Sequence[Method], draw: Callable[[Axes, Method, str], None], labels: dict[str, Any]
) -> Figure:
    """A panel for each backbone of the methods, that share their axes."""
    backbones = backbones_of(methods)
    figure = Figure(figsize=(1 + 4.5 * len(backbones), 4), layout="constrained")
    panels = figure.subplots(1, len(backbones), squeeze=False, sharey=True)[0]
    for axes, backbone in zip(panels, backbones, strict=True):
        for method in methods:
            if method[0] == backbone:
                draw(axes, method, COLORS[method[1]])
        axes.set(**labels)
        axes.set_title(BACKBONE_NAMES[backbone], fontsize=10)
        axes.legend(frameon=False, fontsize=8)
        finish_axes(axes)
    for axes in panels[1:]:
        axes.set_ylabel("")
    return figure


def backbones_of(methods: Sequence[Method]) -> list[str]:
    return list(dict.fromkeys(backbone for backbone, _ in methods))


def draw_seeds(axes: Axes, x: Sequence[float], curves: Sequence[Sequence[float]], **style: Any) -> None:
    """The mean of the seeds' curves, and a band from the lowest to the highest."""
    values = np.array(curves)
    axes.plot(x, values.mean(axis=0), **{"linewidth": 2, **style})
    axes.fill_between(x, values.min(axis=0), values.max(axis=0), color=style["color"], alpha=0.2, linewidth=0)


def visible_under_another(method: Method) -> dict[str, float]:
    """Widths of a curve, so that STAR's and another one are both to be seen where they lie on each other."""
    is_star = method[1] == "star"
    return {"linewidth": 2 if is_star else 4, "markersize": 4 if is_star else 7}
