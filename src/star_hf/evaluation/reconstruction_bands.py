"""Where in the spectrum a reconstruction is wrong: the error of each frequency band, in dB."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from transformers.audio_utils import hertz_to_mel, mel_to_hertz

from .reconstruction import magnitude, mel_filters
from .waveform_checks import Reduction, check_pair, check_rate, reduce_clips

FFT_SIZE, HOP = 2048, 512
BAND_EDGES = (0.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)  # Hz; the last goes to Nyquist


@dataclass(frozen=True)
class BandErrors:
    """Errors of frequency bands in dB, `(bands,)`, or `(batch, bands)` where nothing was averaged.

    `error` is the mean absolute difference of levels, `bias` the mean difference, prediction minus reference:
    negative where the prediction lacks energy. `edges` are (low, high) in Hz.
    """

    edges: tuple[tuple[float, float], ...]
    error: torch.Tensor
    bias: torch.Tensor


def band_errors(
    prediction: torch.Tensor,
    reference: torch.Tensor,
    sampling_rate: int,
    bands: Sequence[float] | int = BAND_EDGES,
    reduction: Reduction = "mean",
) -> BandErrors:
    r"""Spectral error by frequency of waveforms `(batch, channels, samples)`.

    For magnitudes P and R (Hann windows of 2048 samples, hop 512, clamped at 1e-4), the mean over frames,
    channels and the bins of a band of \(|20 \log_{10} P - 20 \log_{10} R|\). The spectral error distribution
    of the STAR paper's Figure 3c.

    Args:
        sampling_rate: in Hz.
        bands: ascending edges in Hz, each but the first below half the rate, the last band reaching to it;
            edges of the default that lie above it are left out. Or a number of mel bands, whose magnitudes
            are then compared in place of bins; a band's edges are those of its triangle.
        reduction: "mean" over clips, or "none" for `(batch, bands)`.

    Raises `ValueError` or `TypeError` for waveforms of different shapes, not finite, not floating point or of
    1024 samples or fewer, and for bands that are not ascending, reach beyond half the rate, or hold no bin.
    """
    check_pair(prediction, reference, longest_fft=FFT_SIZE)
    check_rate("sampling_rate", sampling_rate)
    spectra = [magnitude(waveform, FFT_SIZE, HOP, FFT_SIZE) for waveform in (prediction, reference)]
    if isinstance(bands, int):
        edges, weights = _mel_bands(sampling_rate, bands)
        spectra = [weights.to(spectrum.device) @ spectrum for spectrum in spectra]
        average = torch.eye(bands)
    else:
        edges, average = _linear_bands(sampling_rate, bands)
    difference = 20 * (spectra[0].log10() - spectra[1].log10())  # (B, C, bins, frames)
    average = average.to(difference.device)
    return BandErrors(
        edges,
        error=reduce_clips(difference.abs().mean(dim=(1, 3)) @ average.T, reduction),
        bias=reduce_clips(difference.mean(dim=(1, 3)) @ average.T, reduction),
    )


def named_bands(errors: BandErrors) -> Iterator[tuple[str, float]]:
    """Names and values of averaged errors: `band_error_0-250_hz`, ..., `band_bias_0-250_hz`, ..."""
    for kind, values in (("error", errors.error), ("bias", errors.bias)):
        for (low, high), value in zip(errors.edges, values, strict=True):
            yield f"band_{kind}_{low:g}-{high:g}_hz", value.item()


def _linear_bands(
    sampling_rate: int, edges: Sequence[float]
) -> tuple[tuple[tuple[float, float], ...], torch.Tensor]:
    """Bands and the matrix (bands, bins) that averages their bins."""
    nyquist = sampling_rate / 2
    if edges is BAND_EDGES:
        edges = [edge for edge in edges if edge < nyquist]
    edges = [float(edge) for edge in edges]
    ascending = all(low < high for low, high in pairwise(edges))
    if (
        not edges
        or not ascending
        or edges[0] < 0
        or not edges[-1] < nyquist
        or not all(map(math.isfinite, edges))
    ):
        raise ValueError(
            f"`bands` must be ascending edges from 0 to below {nyquist:g} Hz, or a number of mel bands, "
            f"got {edges}."
        )
    bounds = tuple(pairwise([*edges, nyquist]))
    bins = torch.linspace(0, nyquist, FFT_SIZE // 2 + 1, dtype=torch.float64)
    members = torch.stack([(bins >= low) & ((bins < high) | (high == nyquist)) for low, high in bounds])
    _refuse_empty(bounds, members.any(dim=1), sampling_rate)
    members = members.float()
    return bounds, members / members.sum(dim=1, keepdim=True)


def _mel_bands(sampling_rate: int, count: int) -> tuple[tuple[tuple[float, float], ...], torch.Tensor]:
    if isinstance(count, bool) or count < 1:
        raise ValueError(f"`bands` must be edges in Hz or a number of mel bands >= 1, got {count!r}.")
    filters = mel_filters(sampling_rate, FFT_SIZE, count)
    top = hertz_to_mel(sampling_rate / 2, mel_scale="slaney")
    corners = [mel_to_hertz(top * i / (count + 1), mel_scale="slaney") for i in range(count + 2)]
    bounds = tuple((float(low), float(high)) for low, high in zip(corners, corners[2:], strict=False))
    _refuse_empty(bounds, filters.any(dim=1), sampling_rate)
    return bounds, filters


def _refuse_empty(bounds: tuple[tuple[float, float], ...], filled: torch.Tensor, sampling_rate: int) -> None:
    empty = [f"{low:g}-{high:g}" for (low, high), any_bin in zip(bounds, filled, strict=True) if not any_bin]
    if empty:
        raise ValueError(
            f"`bands` of {', '.join(empty)} Hz hold no bin of an FFT of {FFT_SIZE} at {sampling_rate} Hz."
        )
