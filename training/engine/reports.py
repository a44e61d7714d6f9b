"""Sounds and pictures that a run shows on its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from star_hf.evaluation.latents import LatentProfile
from star_hf.evaluation.plots import draw_kl_profile, draw_spectrogram, spectrogram_power

PANEL_WIDTH, PANEL_HEIGHT = 3.6, 1.9  # inches
COLUMNS = 3
TITLE_LENGTH = 44  # characters


@dataclass
class Report:
    """What one report shows.

    Attributes:
        audio: by name, a clip `(channels, samples)` float32 on the CPU with its sampling rate in Hz.
        figures: pictures by name.
    """

    audio: dict[str, tuple[torch.Tensor, int]] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)


def comparison_figure(pairs: Sequence[tuple[str, torch.Tensor, torch.Tensor]], sampling_rate: int) -> Figure:
    """Mel spectrograms of originals beside their reconstructions, one `(title, original, copy)` a row.

    Waveforms are `(channels, samples)`. Both of a pair are in dB below the original's loudest point, so that
    a wrong level shows. Raises `ValueError` without pairs.
    """
    if not pairs:
        raise ValueError("`pairs` is empty: there is nothing to show.")
    figure, grid = _panels(rows=len(pairs), columns=2)
    image = None
    for (title, original, reconstruction), row in zip(pairs, grid, strict=True):
        reference = spectrogram_power(original, sampling_rate).max()
        seconds = max(original.shape[-1], reconstruction.shape[-1]) / sampling_rate
        for axes, waveform, kind in zip(
            row, (original, reconstruction), ("original", "reconstruction"), strict=True
        ):
            image = draw_spectrogram(axes, waveform, sampling_rate, reference)
            axes.set_xlim(0, seconds)
            axes.set_title(f"{_short(title)} · {kind}", fontsize=9)
    _label(figure, grid, image, "dB re the original's peak")
    return figure


def spectrogram_figure(clips: dict[str, torch.Tensor], sampling_rate: int) -> Figure:
    """Mel spectrograms of clips `(channels, samples)` by name, in dB below each one's loudest point.

    Raises `ValueError` without clips.
    """
    if not clips:
        raise ValueError("`clips` is empty: there is nothing to show.")
    rows = -(-len(clips) // COLUMNS)
    figure, grid = _panels(rows, columns=-(-len(clips) // rows))
    seconds = max(waveform.shape[-1] for waveform in clips.values()) / sampling_rate
    image = None
    for (name, waveform), axes in zip(clips.items(), grid.flat, strict=False):
        image = draw_spectrogram(axes, waveform, sampling_rate)
        axes.set_xlim(0, seconds)
        axes.set_title(_short(name), fontsize=9)
    for axes in grid.flat[len(clips) :]:
        axes.set_axis_off()
    _label(figure, grid, image, "dB re the clip's peak")
    return figure


def kl_profile_figure(channel_kl: torch.Tensor, frame_rate: float | None = None) -> Figure:
    """KL of each latent channel, `(channels,)` in nats per frame, and the mean of each eighth of them.

    With `frame_rate` in frames per second the title also tells the rate in kbit/s.
    """
    if channel_kl.ndim != 1 or len(channel_kl) == 0:
        raise ValueError(f"`channel_kl` must be (channels,), got shape {tuple(channel_kl.shape)}.")
    profile = LatentProfile(tuple(channel_kl.detach().cpu().double().tolist()), frame_rate or 0.0, 0)
    rate = f", {profile.rate_kbps:.2f} kbit/s" if frame_rate else ""
    figure = Figure(figsize=(7.0, 3.4), layout="constrained")
    axes = figure.subplots()
    draw_kl_profile(axes, profile)
    axes.set_title(
        f"{profile.nats_per_frame:.1f} nats per frame{rate} (line: mean of each eighth of the channels)",
        fontsize=10,
    )
    return figure


def _panels(rows: int, columns: int):
    figure = Figure(figsize=(1.4 + PANEL_WIDTH * columns, 0.6 + PANEL_HEIGHT * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=True)


def _label(figure: Figure, grid, image: AxesImage, level: str) -> None:
    for row in grid:
        row[0].set_ylabel("frequency [kHz]")
    for axes in _lowest(grid):
        axes.set_xlabel("time [s]")
    figure.colorbar(image, ax=grid, label=level, shrink=max(0.3, 1 / len(grid)), aspect=25)


def _lowest(grid) -> list[Axes]:
    """The lowest panel in use of each column."""
    return [[axes for axes in column if axes.axison][-1] for column in grid.T]


def _short(title: str) -> str:
    return title if len(title) <= TITLE_LENGTH else f"{title[: TITLE_LENGTH - 1]}…"
