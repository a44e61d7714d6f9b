"""Pictures of KL profiles, spectrograms and training curves, for model cards and for runs under way."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from transformers.audio_utils import hertz_to_mel, mel_filter_bank

from .latents import LatentProfile

DPI = 120
COLORS = ("#0b6e99", "#d9730d", "#6f6f6f", "#448361", "#9065b0", "#c14c8a")
FFT_SIZE, HOP, MEL_BANDS, MIN_FREQUENCY = 2048, 512, 96, 40.0
DYNAMIC_RANGE_DB = 70.0
FREQUENCY_TICKS = (300, 1000, 3000, 10000)
TITLE_WIDTH = 24  # characters
COLORMAP = "magma"


def plot_kl_profile(profiles: Mapping[str, LatentProfile], path: str | Path) -> Path:
    """Draw the KL of each latent channel for one or several autoencoders, by name, into a PNG at `path`."""
    if not profiles:
        raise ValueError("`profiles` is empty: there is nothing to plot.")
    figure = Figure(figsize=(7.5, 4 + 0.2 * len(profiles)), layout="constrained")
    axes = figure.subplots()
    for (name, profile), color in zip(profiles.items(), _colors(len(profiles)), strict=True):
        label = f"{name}: {profile.rate_kbps:.2f} kbit/s, first/last eighth {profile.head_tail_ratio:.2f}"
        draw_kl_profile(axes, profile, color, label)
    axes.set_title("Capacity of the latent channels (bold: mean of each eighth)")
    figure.legend(frameon=False, loc="outside lower center", ncols=1)
    return save_figure(figure, path)


def draw_kl_profile(
    axes: Axes, profile: LatentProfile, color: str = COLORS[0], label: str | None = None
) -> None:
    """Draw the KL of each channel, thin, and the mean of each eighth of the channels, bold."""
    channels = np.arange(1, len(profile.kl_per_channel) + 1)
    axes.plot(channels, profile.kl_per_channel, color=color, alpha=0.35, linewidth=1)
    centres = [group.mean() for group in np.array_split(channels, len(profile.eighths))]
    axes.plot(centres, profile.eighths, color=color, marker="o", markersize=4, linewidth=2, label=label)
    axes.set(xlabel="latent channel", ylabel="KL from N(0, 1)  [nats per frame]", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes)


@dataclass(frozen=True)
class SpectrogramPair:
    """A real and a generated clip `(channels, samples)` of one `title`."""

    title: str
    real: torch.Tensor
    generated: torch.Tensor


def plot_spectrogram_grid(
    pairs: Sequence[SpectrogramPair], sampling_rate: int, path: str | Path, columns: int = 5
) -> Path:
    """Draw real clips above generated ones, `columns` pairs beside each other, into a PNG at `path`.

    Mel-scaled spectrograms in dB below each clip's own loudest point.
    """
    if not pairs:
        raise ValueError("`pairs` is empty: there is nothing to plot.")
    columns = min(columns, len(pairs))
    blocks = -(-len(pairs) // columns)
    seconds = max(max(pair.real.shape[-1], pair.generated.shape[-1]) for pair in pairs) / sampling_rate
    figure = Figure(figsize=(0.9 + 2.4 * columns, 3.9 * blocks), layout="constrained")
    grid = figure.subplots(2 * blocks, columns, squeeze=False, sharex=True, sharey=True)
    image = None
    for index in range(blocks * columns):
        block, column = divmod(index, columns)
        rows = {"real": grid[2 * block, column], "generated": grid[2 * block + 1, column]}
        if index >= len(pairs):
            for axes in rows.values():
                axes.set_axis_off()
            continue
        for name, axes in rows.items():
            image = draw_spectrogram(axes, getattr(pairs[index], name), sampling_rate)
            axes.set_xlim(0, seconds)
            if column == 0:
                axes.set_ylabel(f"{name}\nfrequency [kHz]")
        rows["real"].set_title(textwrap.fill(pairs[index].title, TITLE_WIDTH), fontsize=11)
        rows["generated"].set_xlabel("time [s]")
        rows["generated"].tick_params(labelbottom=True)
    figure.colorbar(image, ax=grid, label="level below the clip's loudest point [dB]", shrink=0.6, aspect=40)
    return save_figure(figure, path)


def plot_training_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    path: str | Path,
    title: str = "Training",
    ylabel: str = "loss",
) -> Path:
    """Draw `(step, value)` series, by name, into a PNG at `path`; logarithmic when they span a decade."""
    if not any(curves.values()):
        raise ValueError("`curves` holds no points: there is nothing to plot.")
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    axes = figure.subplots()
    for (name, points), color in zip(curves.items(), _colors(len(curves)), strict=True):
        axes.plot(*zip(*points, strict=True), color=color, linewidth=1.5, label=name)
    axes.set(title=title, xlabel="step", ylabel=ylabel)
    values = [value for points in curves.values() for _, value in points]
    if min(values) > 0 and max(values) > 10 * min(values):
        axes.set_yscale("log")
    _finish(axes)
    axes.legend(frameon=False)
    return save_figure(figure, path)


def spectrogram_power(waveform: torch.Tensor, sampling_rate: int) -> torch.Tensor:
    """Mel power spectrogram `(mel bands, frames)` of `(channels, samples)`, the mean over the channels."""
    samples = waveform.detach().cpu().double()
    window = torch.hann_window(FFT_SIZE, dtype=samples.dtype)
    spectrum = torch.stft(
        samples, FFT_SIZE, HOP, window=window / window.sum(), pad_mode="constant", return_complex=True
    )
    filters = mel_filter_bank(
        FFT_SIZE // 2 + 1, MEL_BANDS, MIN_FREQUENCY, sampling_rate / 2, sampling_rate, mel_scale="slaney"
    )
    return torch.from_numpy(filters).T @ spectrum.abs().square().mean(dim=0)


def draw_spectrogram(
    axes: Axes, waveform: torch.Tensor, sampling_rate: int, reference: torch.Tensor | None = None
) -> AxesImage:
    """Draw the mel spectrogram of `(channels, samples)` over seconds and kHz, in dB below a reference power.

    The reference is by default the clip's own loudest point.
    """
    power = spectrogram_power(waveform, sampling_rate)
    reference = (power.max() if reference is None else reference).clamp_min(1e-20)
    decibels = 10 * torch.log10(power / reference + 1e-12)
    top = sampling_rate / 2
    low, high = (hertz_to_mel(f, mel_scale="slaney") for f in (MIN_FREQUENCY, top))
    axes.set_facecolor(colormaps[COLORMAP](0.0))  # where a clip is shorter than the axis
    image = axes.imshow(
        decibels.numpy(),
        origin="lower",
        aspect="auto",
        cmap=COLORMAP,
        vmin=-DYNAMIC_RANGE_DB,
        vmax=0,
        interpolation="nearest",
        extent=(0, power.shape[-1] * HOP / sampling_rate, low, high),
    )
    ticks = [tick for tick in FREQUENCY_TICKS if MIN_FREQUENCY < tick < top]
    axes.set_yticks([hertz_to_mel(float(tick), mel_scale="slaney") for tick in ticks])
    axes.set_yticklabels([f"{tick / 1000:g}" for tick in ticks])
    return image


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, complete or not at all; the same figure gives the same bytes."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        without_version = {"Software": None}
        figure.savefig(temporary, format="png", dpi=DPI, metadata=without_version)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _colors(number: int) -> list[str]:
    return [COLORS[index % len(COLORS)] for index in range(number)]


def _finish(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
