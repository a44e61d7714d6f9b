"""Pictures as SVG that takes the page's text colour, so that they are read in light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Of middle lightness: they stand out from white and from black.
COLORS = ("#2b8cbe", "#e08214", "#4d9f5b", "#a569bd", "#d6604d", "#8c8c8c")
INK = "#123456"  # stands for the text colour of the page until the SVG is written
SIZE = (5.2, 3.2)
STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.labelcolor": INK,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color", "ytick.color"),
        INK,
    ),
}


def one_panel(draw: Callable[[Axes], None], prefix: str, entries: int) -> str:
    """The SVG of one panel; `entries` in the legend below it, none of one. See `svg_text` for `prefix`."""
    with rc_context(STYLE):
        height = SIZE[1] + (0.2 * entries if entries > 1 else 0)
        figure = Figure(figsize=(SIZE[0], height), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, color=INK)
        if entries > 1:
            figure.legend(
                frameon=False, loc="outside lower center", ncols=1 if entries < 3 else 2, fontsize=9
            )
        return svg_text(figure, prefix)


def svg_text(figure: Figure, prefix: str) -> str:
    """A figure that was drawn with `STYLE` as an `<svg>` element without a size of its own.

    `prefix` is put before its identifiers: pictures that share a page need different ones.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-")
    return re.sub(
        r'(<svg[^>]*?) height="[^"]*"',
        r"\1",
        re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1),
        count=1,
    )


def colored(names: Iterable[str]) -> dict[str, str]:
    """A color for each name; after six they come again."""
    return {name: COLORS[index % len(COLORS)] for index, name in enumerate(names)}
