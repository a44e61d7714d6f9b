"""What the studies' pictures share: grey text on no background, read on light and on dark pages alike."""

from matplotlib.axes import Axes

GREY = "#7a7a7a"
#: Of middle lightness, which stands out from white and from black.
PALETTE = ("#2f8fc4", "#d9730d", "#4d9f5b", "#a569bd", "#c9a227", "#d66b9c")
STYLE = {
    name: GREY
    for name in (
        "text.color",
        "axes.labelcolor",
        "axes.edgecolor",
        "xtick.color",
        "ytick.color",
        "grid.color",
    )
} | {"axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none"}


def finish_axes(axes: Axes) -> None:
    """No frame above and to the right, a faint grid, small ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)
