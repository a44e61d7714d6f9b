"""Spectrograms and channel profiles as HTML: text of one size on every screen, readable in light and dark."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape

import numpy as np
import torch
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator
from torch.nn import functional
from transformers.audio_utils import hertz_to_mel

from ..evaluation.accumulation import eighth_means
from ..evaluation.plots import COLORMAP, DYNAMIC_RANGE_DB, FREQUENCY_TICKS, MIN_FREQUENCY, spectrogram_power
from .studio import ChannelProfile, Clip

MAX_COLUMNS = 1200  # of a spectrogram: no screen shows more
TIME_TICKS = 5
LEFT_OUT = ' class="star-left-out"'


def spectrogram(clip: Clip, compared_with: Iterable[torch.Tensor] = ()) -> str:
    """Mel spectrogram of a clip over seconds and kHz, in dB below its loudest point.

    `compared_with` are the loudest powers of clips whose pictures stand beside it: the largest counts.
    """
    power = spectrogram_power(clip.waveform, clip.sampling_rate)
    reference = torch.stack([power.max(), *compared_with]).max().clamp_min(1e-20)
    power = functional.adaptive_avg_pool1d(power, min(power.shape[-1], MAX_COLUMNS))
    decibels = 10 * torch.log10(power / reference + 1e-12)
    image = _png(decibels.numpy())
    top = clip.sampling_rate / 2
    low, high = (_mel(frequency) for frequency in (MIN_FREQUENCY, top))
    heights = "".join(
        f'<span style="bottom:{100 * (_mel(tick) - low) / (high - low):.2f}%">{tick / 1000:g}</span>'
        for tick in FREQUENCY_TICKS
        if MIN_FREQUENCY < tick < 0.9 * top
    )
    times = "".join(
        f'<span style="left:{100 * tick / clip.seconds:.2f}%">{tick:g}</span>'
        for tick in MaxNLocator(TIME_TICKS).tick_values(0, clip.seconds)
        if 0 <= tick <= 0.94 * clip.seconds
    )
    title = escape(f"Mel spectrogram, {clip.seconds:.2f} s: {clip.name}", quote=True)
    return (
        f'<figure class="star-plot"><div class="star-unit">kHz</div><div class="star-heights">{heights}</div>'
        f'<img src="data:image/png;base64,{image}" alt="{title}">'
        f'<div class="star-ticks">{times}<span>s</span></div></figure>'
    )


def loudest_power(clip: Clip) -> torch.Tensor:
    """The mel power of a clip's loudest point, for pictures that are compared with it."""
    return spectrogram_power(clip.waveform, clip.sampling_rate).max()


def profile_bars(profile: ChannelProfile, kept: int) -> str:
    """A bar for each latent channel; those after the first `kept`, which are left out, are pale."""
    values = np.maximum(profile.values, 0)
    highest = float(values.max()) or 1.0
    bars = "".join(
        f'<rect x="{index + 0.08:.2f}" width="0.84" y="{100 * (1 - value / highest):.2f}" '
        f'height="{100 * value / highest:.2f}"{"" if index < kept else LEFT_OUT}/>'
        for index, value in enumerate(values)
    )
    channels = len(values)
    ticks = "".join(
        f'<span style="left:{100 * (tick - 0.5) / channels:.2f}%">{tick:g}</span>'
        for tick in dict.fromkeys([1, *MaxNLocator(8, integer=True).tick_values(1, channels)])
        if 1 <= tick <= 0.8 * channels
    )
    eighths = eighth_means(profile.values)
    unit = "variance" if profile.kind == "variance" else f"{profile.kind} in nats per frame"
    title = escape(
        f"{unit} of {channels} latent channels: {eighths[0]:.2f} on average in the first eighth, "
        f"{eighths[-1]:.2f} in the last",
        quote=True,
    )
    return (
        f'<figure class="star-plot"><div class="star-unit">{escape(unit)}, up to {highest:.2f}</div>'
        f'<svg role="img" aria-label="{title}" viewBox="0 0 {channels} 100" preserveAspectRatio="none">'
        f"{bars}</svg>"
        f'<div class="star-ticks">{ticks}<span>channel</span></div></figure>'
    )


def _png(decibels: np.ndarray) -> str:
    file = io.BytesIO()
    imsave(
        file, decibels, vmin=-DYNAMIC_RANGE_DB, vmax=0, cmap=COLORMAP, origin="lower", format="png", dpi=100
    )
    return base64.b64encode(file.getvalue()).decode()


def _mel(frequency: float) -> float:
    return float(hertz_to_mel(float(frequency), mel_scale="slaney"))
