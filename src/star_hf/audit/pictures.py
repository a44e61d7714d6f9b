"""The curves of the audit as SVG for its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from .residuals import ChannelResiduals
from .svg import INK, STYLE, colored, one_panel, svg_text

COLUMNS = 8
TILE_BANDS, TILE_FRAMES = 48, 96
Reports = Mapping[str, dict[str, Any]]


def profile_picture(reports: Reports, kind: str) -> str:
    """What each channel carries, thin, and the mean of each eighth of the channels, bold."""
    label = "variance" if kind == "variance" else f"{kind} [nats per frame]"

    def draw(axes: Axes) -> None:
        for name, color, latents in _latents(reports):
            profile = latents["profile"]
            if profile["kind"] != kind:
                continue
            channels = np.arange(1, len(profile["values"]) + 1)
            axes.plot(channels, profile["values"], color=color, alpha=0.45, linewidth=1)
            centres = [group.mean() for group in np.array_split(channels, len(profile["eighths"]))]
            axes.plot(centres, profile["eighths"], "o-", color=color, markersize=4, linewidth=2, label=name)
        axes.set(xlabel="latent channel", ylabel=label, ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return one_panel(draw, f"profile-{kind}", len(reports))


def truncation_picture(reports: Reports, distance: str) -> str:
    """Distance of the reconstruction with the first (solid) or last (dashed) k channels."""

    def draw(axes: Axes) -> None:
        for name, color, decoder in _decoders(reports):
            head, tail = decoder["truncation_head"], decoder["truncation_tail"]
            axes.plot(head["x"], head[distance], "o-", color=color, markersize=4, label=f"{name}, first k")
            axes.plot(tail["x"], tail[distance], "s--", color=color, markersize=3, label=f"{name}, last k")
        axes.set(xlabel="channels kept, k", ylabel=f"{_distance_name(distance)} distance", xscale="log")
        axes.set_ylim(0, None)
        _plain_ticks(axes)

    return one_panel(draw, f"truncation-{distance}", 2 * len(reports))


def noise_picture(reports: Reports, distance: str) -> str:
    """Distance of the reconstruction under noise in the latents."""

    def draw(axes: Axes) -> None:
        for name, color, decoder in _decoders(reports):
            curve = decoder["noise"]
            axes.plot(curve["x"], curve[distance], "o-", color=color, markersize=4, label=name)
        axes.set(xlabel="noise [std of each channel]", ylabel=f"{_distance_name(distance)} distance")
        low, high = axes.dataLim.intervaly
        if high > 10 * low > 0:
            axes.set_yscale("log", subs=[])
            ticks = [digit * 10.0**power for power in range(-3, 4) for digit in (1, 2, 5)]
            axes.set_yticks([tick for tick in ticks if low <= tick <= high])
            axes.yaxis.set_major_formatter(ScalarFormatter())
        else:
            axes.set_ylim(0, None)

    return one_panel(draw, f"noise-{distance}", len(reports))


def variance_picture(reports: Reports) -> str:
    """Share of the variance in the first principal components."""

    def draw(axes: Axes) -> None:
        for name, color, latents in _latents(reports):
            shares = np.array([0.0, *latents["explained_variance"]])
            axes.plot(np.arange(len(shares)), shares, color=color, linewidth=2, label=name)
            axes.axvline(latents["effective_dimensions"], color=color, linewidth=1, linestyle=":")
        axes.axhline(0.95, color=INK, alpha=0.5, linewidth=1, linestyle="--")
        axes.set(
            xlabel="principal components", ylabel="share of the variance", ylim=(0, 1.02), xlim=(0, None)
        )

    return one_panel(draw, "variance", len(reports))


def spectrum_picture(reports: Reports) -> str:
    """Power of the (time × channel) map over its radial frequency."""

    def draw(axes: Axes) -> None:
        for name, color, latents in _latents(reports):
            if latents["radial_power"] is not None:
                axes.plot(
                    latents["radial_frequencies"][1:], latents["radial_power"][1:], color=color, label=name
                )
        axes.set(xlabel="radial frequency [cycles per step]", ylabel="power", xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
        axes.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5])
        axes.xaxis.set_major_formatter(ScalarFormatter())

    return one_panel(draw, "spectrum", len(reports))


def spread_picture(reports: Reports) -> str:
    """Mean and standard deviation of each channel over the data set."""

    def draw(axes: Axes) -> None:
        for name, color, latents in _latents(reports):
            channels = np.arange(1, latents["channels"] + 1)
            axes.plot(channels, latents["std_per_channel"], color=color, linewidth=1.5, label=f"{name}, std")
            axes.plot(
                channels, latents["mean_per_channel"], ":", color=color, linewidth=1.5, label=f"{name}, mean"
            )
        axes.set(xlabel="latent channel", ylabel="value")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return one_panel(draw, "spread", 2 * len(reports))


def smoothness_picture(reports: Reports) -> str:
    """How much neighbouring frames differ, channel by channel."""

    def draw(axes: Axes) -> None:
        for name, color, latents in _latents(reports):
            values = [np.nan if v is None else v for v in latents["temporal_difference_ratio_per_channel"]]
            axes.plot(np.arange(1, len(values) + 1), values, color=color, linewidth=1.5, label=name)
        axes.axhline(1, color=INK, alpha=0.5, linewidth=1, linestyle="--")
        axes.set(xlabel="latent channel", ylabel="frame-to-frame difference", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return one_panel(draw, "smoothness", len(reports))


def residual_picture(residuals: ChannelResiduals, prefix: str) -> str:
    """A grid of residual mel spectrograms, channel by channel in reading order."""
    tiles = [_shrink(residual) for residual in residuals.maps]
    rows, columns = -(-len(tiles) // COLUMNS), min(COLUMNS, len(tiles))
    height, width = tiles[0].shape
    step_y, step_x = height + 8, width + 3
    mosaic = np.full((rows * step_y, columns * step_x), np.nan)
    limit = max(1.0, float(np.percentile(np.abs(residuals.maps), 99.5)))
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.7 * rows + 0.9), layout="constrained")
        axes = figure.subplots()
        for number, tile in enumerate(tiles):
            row, column = divmod(number, columns)
            top = row * step_y + 8
            mosaic[top : top + height, column * step_x : column * step_x + width] = tile[::-1]
            channel = str(residuals.channels[number] + 1)
            axes.text(column * step_x, top - 2, channel, fontsize=6, color=INK)
        image = axes.imshow(
            mosaic, cmap=colormaps["RdBu_r"], vmin=-limit, vmax=limit, interpolation="none", aspect="auto"
        )
        axes.set_axis_off()
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.5, aspect=40)
        bar.set_label("level with the channel less level without it [dB]")
        return svg_text(figure, prefix)


def _shrink(residual: np.ndarray) -> np.ndarray:
    """Means over blocks, to at most `TILE_BANDS` × `TILE_FRAMES`."""
    for axis, size in ((0, TILE_BANDS), (1, TILE_FRAMES)):
        parts = np.array_split(residual, min(size, residual.shape[axis]), axis=axis)
        residual = np.stack([part.mean(axis=axis) for part in parts], axis=axis)
    return residual


def _latents(reports: Reports) -> list[tuple[str, str, dict[str, Any]]]:
    return [(name, color, report["latents"]) for (name, report), color in _colored(reports)]


def _decoders(reports: Reports) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (name, color, report["decoder"])
        for (name, report), color in _colored(reports)
        if report["decoder"] is not None
    ]


def _colored(reports: Reports) -> list[tuple[tuple[str, dict[str, Any]], str]]:
    return list(zip(reports.items(), colored(reports).values(), strict=True))


def _plain_ticks(axes: Axes) -> None:
    ticks: Sequence[int] = [2**power for power in range(12)]
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()


def _distance_name(distance: str) -> str:
    return {"stft": "STFT", "mel": "mel"}[distance]
