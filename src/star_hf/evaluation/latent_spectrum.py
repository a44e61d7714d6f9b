"""How fast the spectrum of the (time × channel) map of latents falls: the spectral decay exponent α."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from .accumulation import checked_latents


@dataclass(frozen=True)
class RadialSpectrum:
    """Radially averaged power S(r / size) for r = 0…⌊size / 2⌋, the mean over `num_windows` maps.

    `skipped_frames` is how many frames filled no whole window.
    """

    power: tuple[float, ...]
    size: int
    num_windows: int
    skipped_frames: int = 0

    @property
    def frequencies(self) -> np.ndarray:
        """Normalized radial frequency of each ring, 0 to ½."""
        return np.arange(len(self.power)) / self.size

    @property
    def spectral_decay(self) -> float:
        """α of S(f) ∝ f^(−α): white noise has 0, mel spectrograms about 2 in the source.

        The ring of DC is dropped; log S, linear between the rings over log f, is taken at as many equally
        spaced log f as there are rings and fitted by least squares. (Between rings the source leaves open
        what is linear; this way a power law is met exactly.) `nan` where a ring has no power.
        """
        frequencies, power = self.frequencies[1:], np.asarray(self.power[1:])
        if len(power) < 2 or not (power > 0).all():
            return math.nan
        log_frequencies = np.log(frequencies)
        grid = np.linspace(log_frequencies[0], log_frequencies[-1], len(log_frequencies))
        slope, _ = np.polyfit(grid, np.interp(grid, log_frequencies, np.log(power)), 1)
        return float(-slope)

    def to_dict(self) -> dict:
        """α and the spectrum as plain numbers, for JSON."""
        return {
            "spectral_decay": None if math.isnan(self.spectral_decay) else self.spectral_decay,
            "radial_power": list(self.power),
            "window_frames_and_channels": self.size,
            "num_windows": self.num_windows,
            "skipped_frames": self.skipped_frames,
        }


class LatentSpectrum:
    r"""Averages the radially averaged power spectra of windows of latents, in float64.

    A window X (frames × channels) has the power \(P(k_t, k_c) = |\hat X(k_t, k_c)|^2\) of its 2-D DFT. With
    l = max(frames, channels), S(r / l) is its mean over the ring round(√(k_t² + k_c²)) = r. Source: "Listens
    Like Mel: Boosting Latent Audio Diffusion with Channel Locality", appendix C (pysteps' `rapsd`).

    Args:
        window: frames of each window; as many as there are channels by default, since only in a square map is
            a ring one frequency along both axes. Spectra of windows of one length can be averaged over clips:
            a clip gives as many as fit side by side; what is left over is counted and not used.
    """

    def __init__(self, window: int | None = None) -> None:
        if window is not None and window < 2:
            raise ValueError(f"`window` must be at least 2 frames, got {window!r}.")
        self.window = window
        self.channels: int | None = None
        self.num_windows = self.skipped_frames = 0

    def update(self, latents: torch.Tensor) -> LatentSpectrum:
        """Add latents `(batch, channels, frames)`, each member of the batch a clip; returns itself.

        Raises `ValueError` for other shapes, another number of channels than before, or values that are not
        finite.
        """
        values = checked_latents(latents, self.channels)
        if self.channels is None:
            self._start(values.shape[1])
        batch, _, frames = values.shape
        window = self.window or values.shape[1]
        whole = frames - frames % window
        self.skipped_frames += batch * (frames - whole)
        for start in range(0, whole, window):
            power = torch.fft.fft2(values[..., start : start + window]).abs().square()  # (B, C, window)
            self.total.index_add_(0, self.rings, power.sum(dim=0).flatten())
            self.num_windows += batch
        return self

    def spectrum(self) -> RadialSpectrum:
        """The mean spectrum of what was seen. Raises `ValueError` when no clip was as long as a window."""
        if self.channels is None:
            raise ValueError("No latents were added: there is no spectrum to average.")
        window = self.window or self.channels
        if self.num_windows == 0:
            raise ValueError(f"No clip of {window} frames was added: there is no spectrum to average.")
        size = max(self.channels, window)
        members = torch.bincount(self.rings, minlength=len(self.total))
        power = (self.total / (members * self.num_windows))[: size // 2 + 1]
        return RadialSpectrum(tuple(power.tolist()), size, self.num_windows, self.skipped_frames)

    def _start(self, channels: int) -> None:
        if channels < 2:
            raise ValueError("`latents` has one channel: its map has no second axis.")
        self.channels = channels
        # whole numbers of periods per window, with sign, as the DFT orders them
        over_channels, over_time = (
            torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
            for size in (channels, self.window or channels)
        )
        radius = torch.sqrt(over_channels[:, None].square() + over_time.square())
        self.rings = radius.round().long().flatten()
        self.total = torch.zeros(int(self.rings.max()) + 1, dtype=torch.float64)
