"""How close a reconstruction is to its reference: STFT distance, mel distance, SI-SDR.

All take `(prediction, reference)`, in this order, and measure each clip on its own, so that a clip's value
does not depend on what else is in the batch. The settings are those of the papers: auraloss 0.4's defaults.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from transformers.audio_utils import mel_filter_bank

Reduction = Literal["mean", "none"]

STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))  # FFT size, hop, window
MEL_FFT_SIZE, MEL_HOP, MEL_BANDS = 1024, 256, 128
POWER_FLOOR = 1e-8
ENERGY_FLOOR = 1e-8


def stft_distance(
    prediction: torch.Tensor, reference: torch.Tensor, reduction: Reduction = "mean"
) -> torch.Tensor:
    r"""Multi-resolution STFT distance of waveforms `(batch, channels, samples)`; 0 for equal ones.

    For magnitudes P and R (clamped at 1e-4) of a clip's channels, one resolution gives \(\lVert R - P\rVert_F
    / \lVert R\rVert_F + \operatorname{mean}|\ln R - \ln P|\); three are averaged: FFT 1024, 2048, 512 with
    hops 120, 240, 50 and Hann windows of 600, 1200, 240 samples. Returns the mean over clips, or `(batch,)`
    with `reduction="none"`. Source: Yamamoto et al., "Parallel WaveGAN" (2020), equations 4-6; the settings
    of `auraloss.freq.MultiResolutionSTFTLoss`.

    Raises `ValueError` or `TypeError` for waveforms of different shapes, not finite, not floating point, or
    of 1024 samples or fewer.
    """
    _check(prediction, reference, longest_fft=max(size for size, _, _ in STFT_RESOLUTIONS))
    distances = [
        _spectral_distance(_magnitude(prediction, *resolution), _magnitude(reference, *resolution))
        for resolution in STFT_RESOLUTIONS
    ]
    return _reduce(torch.stack(distances).mean(dim=0), reduction)


def mel_distance(
    prediction: torch.Tensor,
    reference: torch.Tensor,
    sampling_rate: int = 44100,
    reduction: Reduction = "mean",
) -> torch.Tensor:
    """The distance of `stft_distance` on mel spectra: FFT and window 1024, hop 256, 128 Slaney mel bands.

    Waveforms are `(batch, channels, samples)` at `sampling_rate` Hz. Returns the mean over clips, or
    `(batch,)` with `reduction="none"`. The settings of `auraloss.freq.MelSTFTLoss`.

    Raises `ValueError` or `TypeError` as `stft_distance` does (512 samples or fewer are too short), and
    `ValueError` for a rate so high that a band falls between two bins of the transform (88.2 kHz, for
    instance).
    """
    _check(prediction, reference, longest_fft=MEL_FFT_SIZE)
    filters = _mel_filters(sampling_rate).to(prediction.device)
    return _reduce(
        _spectral_distance(
            filters @ _magnitude(prediction, MEL_FFT_SIZE, MEL_HOP, MEL_FFT_SIZE),
            filters @ _magnitude(reference, MEL_FFT_SIZE, MEL_HOP, MEL_FFT_SIZE),
        ),
        reduction,
    )


def si_sdr(prediction: torch.Tensor, reference: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
    r"""Scale-invariant signal-to-distortion ratio in dB of waveforms `(batch, channels, samples)`.

    With means removed and \(s = \langle p, r\rangle / \lVert r\rVert^2 \cdot r\), it is \(10 \log_{10}(\lVert
    s\rVert^2 / \lVert s - p\rVert^2)\) per channel, averaged over channels. Returns the mean over clips, or
    `(batch,)` with `reduction="none"`. Source: Le Roux et al., "SDR - half-baked or well done?" (2019); equal
    to the negative of `auraloss.time.SISDRLoss`.

    Raises `ValueError` or `TypeError` for waveforms of different shapes, not finite or not floating point,
    and `ValueError` for a reference with a silent (constant) channel, against which no ratio is defined.
    """
    _check(prediction, reference)
    prediction, reference = (
        x.double() - x.double().mean(dim=-1, keepdim=True) for x in (prediction, reference)
    )
    energy = reference.square().sum(dim=-1, keepdim=True)  # (B, C, 1)
    silent = (energy <= ENERGY_FLOOR).flatten(1).any(dim=1)
    if silent.any():
        raise ValueError(
            f"`reference` is silent in clips {silent.nonzero().flatten().tolist()}: no SI-SDR there."
        )
    scale = (prediction * reference).sum(dim=-1, keepdim=True) / (energy + ENERGY_FLOOR)
    target = scale * reference
    distortion = (target - prediction).square().sum(dim=-1) + ENERGY_FLOOR
    ratio = 10 * torch.log10(target.square().sum(dim=-1) / distortion + ENERGY_FLOOR)
    return _reduce(ratio.mean(dim=1).float(), reduction)


def _magnitude(waveform: torch.Tensor, fft_size: int, hop: int, window_size: int) -> torch.Tensor:
    """Clamped magnitudes (batch, channels, bins, frames)."""
    batch, channels, samples = waveform.shape
    spectrum = torch.stft(
        waveform.float().reshape(batch * channels, samples),
        fft_size,
        hop_length=hop,
        win_length=window_size,
        window=torch.hann_window(window_size, device=waveform.device),
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    return power.clamp(min=POWER_FLOOR).sqrt().reshape(batch, channels, *power.shape[1:])


def _spectral_distance(prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Convergence + log-magnitude distance `(batch,)` of magnitudes (batch, channels, bins, frames)."""
    error = torch.linalg.vector_norm((reference - prediction).flatten(1), dim=1)
    convergence = error / torch.linalg.vector_norm(reference.flatten(1), dim=1)
    return convergence + (reference.log() - prediction.log()).abs().flatten(1).mean(dim=1)


@lru_cache(maxsize=4)
def _mel_filters(sampling_rate: int) -> torch.Tensor:
    if sampling_rate <= 0:
        raise ValueError(f"`sampling_rate` must be > 0 Hz, got {sampling_rate!r}.")
    filters = torch.from_numpy(
        mel_filter_bank(
            MEL_FFT_SIZE // 2 + 1,
            MEL_BANDS,
            0.0,
            sampling_rate / 2,
            sampling_rate,
            norm="slaney",
            mel_scale="slaney",
        )
    ).float()
    # The logarithm of an empty band is not finite.
    if not filters.any(dim=0).all():
        raise ValueError(
            f"`sampling_rate` {sampling_rate} Hz leaves some of {MEL_BANDS} mel bands without a bin of "
            f"an FFT of {MEL_FFT_SIZE}; resample to 48000 Hz or less."
        )
    return filters.T.contiguous()  # (bands, bins)


def _check(prediction: torch.Tensor, reference: torch.Tensor, longest_fft: int = 0) -> None:
    for name, waveform in (("prediction", prediction), ("reference", reference)):
        if not isinstance(waveform, torch.Tensor) or not waveform.is_floating_point():
            kind = waveform.dtype if isinstance(waveform, torch.Tensor) else type(waveform).__name__
            raise TypeError(f"`{name}` must be a floating-point tensor, got {kind}.")
        if waveform.ndim != 3 or waveform.numel() == 0:
            raise ValueError(f"`{name}` must be (batch, channels, samples > 0), got {tuple(waveform.shape)}.")
        if not torch.isfinite(waveform).all():
            raise ValueError(f"`{name}` holds NaN or infinite samples.")
    if prediction.shape != reference.shape:
        raise ValueError(
            "`prediction` and `reference` must have one shape (batch, channels, samples), got "
            f"{tuple(prediction.shape)} and {tuple(reference.shape)}."
        )
    # The transform reflects half a window at each end.
    if longest_fft and prediction.shape[-1] <= longest_fft // 2:
        raise ValueError(
            f"`prediction` and `reference` have {prediction.shape[-1]} samples; an FFT of {longest_fft} "
            f"needs more than {longest_fft // 2}."
        )


def _reduce(values: torch.Tensor, reduction: str) -> torch.Tensor:
    if reduction not in ("mean", "none"):
        raise ValueError(f"`reduction` must be 'mean' or 'none', got {reduction!r}.")
    return values.mean() if reduction == "mean" else values
