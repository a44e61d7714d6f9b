"""How close a reconstruction is to its reference: STFT distance, mel distances, SI-SDR.

All take `(prediction, reference)`, in this order, and measure each clip on its own, so that a clip's value
does not depend on what else is in the batch. The settings are those of the papers: auraloss 0.4's defaults,
and for the multi-resolution mel distance those of the Descript audio codec.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch
from transformers.audio_utils import mel_filter_bank

from .waveform_checks import Reduction, check_pair, check_rate, reduce_clips, refuse_clips

STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))  # FFT size, hop, window
MEL_FFT_SIZE, MEL_HOP, MEL_BANDS = 1024, 256, 128
# Window (hop a quarter of it) and mel bands.
MEL_RESOLUTIONS = ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320))
MEL_MAGNITUDE_FLOOR = 1e-5
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
    check_pair(prediction, reference, longest_fft=max(size for size, _, _ in STFT_RESOLUTIONS))
    distances = [
        _spectral_distance(magnitude(prediction, *resolution), magnitude(reference, *resolution))
        for resolution in STFT_RESOLUTIONS
    ]
    return reduce_clips(torch.stack(distances).mean(dim=0), reduction)


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
    check_pair(prediction, reference, longest_fft=MEL_FFT_SIZE)
    filters = mel_filters(sampling_rate, MEL_FFT_SIZE, MEL_BANDS).to(prediction.device)
    # The logarithm of an empty band is not finite.
    if not filters.any(dim=1).all():
        raise ValueError(
            f"`sampling_rate` {sampling_rate} Hz leaves some of {MEL_BANDS} mel bands without a bin of "
            f"an FFT of {MEL_FFT_SIZE}; resample to 48000 Hz or less."
        )
    return reduce_clips(
        _spectral_distance(
            filters @ magnitude(prediction, MEL_FFT_SIZE, MEL_HOP, MEL_FFT_SIZE),
            filters @ magnitude(reference, MEL_FFT_SIZE, MEL_HOP, MEL_FFT_SIZE),
        ),
        reduction,
    )


def multi_resolution_mel_distance(
    prediction: torch.Tensor, reference: torch.Tensor, sampling_rate: int, reduction: Reduction = "mean"
) -> torch.Tensor:
    r"""Log-mel distance over seven resolutions of waveforms `(batch, channels, samples)`; 0 for equal ones.

    \(\sum_i \operatorname{mean}|\log_{10} M_i(r) - \log_{10} M_i(p)|\) for Hann windows of 32, 64, ..., 2048
    samples at `sampling_rate` Hz, hop a quarter of them, with 5, 10, ..., 320 mel bands of magnitudes,
    clamped at 1e-5. Symmetric in its two waveforms. Returns the mean over clips, or `(batch,)` with
    `reduction="none"`. Source: Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN" (2023),
    section 3.5.

    Raises `ValueError` or `TypeError` as `stft_distance` does.
    """
    check_pair(prediction, reference, longest_fft=MEL_RESOLUTIONS[-1][0])
    distances = []
    for window, bands in MEL_RESOLUTIONS:
        filters = mel_filters(sampling_rate, window, bands).to(prediction.device)
        # A band that falls between two bins is at the floor in both.
        levels = [
            (filters @ magnitude(waveform, window, window // 4, window, power_floor=0.0))
            .clamp(min=MEL_MAGNITUDE_FLOOR)
            .log10()
            for waveform in (prediction, reference)
        ]
        distances.append((levels[0] - levels[1]).abs().flatten(1).mean(dim=1))
    return reduce_clips(torch.stack(distances).sum(dim=0), reduction)


def si_sdr(prediction: torch.Tensor, reference: torch.Tensor, reduction: Reduction = "mean") -> torch.Tensor:
    r"""Scale-invariant signal-to-distortion ratio in dB of waveforms `(batch, channels, samples)`.

    With means removed and \(s = \langle p, r\rangle / \lVert r\rVert^2 \cdot r\), it is \(10 \log_{10}(\lVert
    s\rVert^2 / \lVert s - p\rVert^2)\) per channel, averaged over channels. It depends on the correlation of
    p and r alone: swapped waveforms have the same, unless one is silent. Returns the mean over clips, or
    `(batch,)` with `reduction="none"`. Source: Le Roux et al., "SDR - half-baked or well done?" (2019); equal
    to the negative of `auraloss.time.SISDRLoss`.

    Raises `ValueError` or `TypeError` for waveforms of different shapes, not finite or not floating point,
    and `ValueError` for a reference with a silent (constant) channel, against which no ratio is defined.
    """
    check_pair(prediction, reference)
    prediction, reference = (
        x.double() - x.double().mean(dim=-1, keepdim=True) for x in (prediction, reference)
    )
    energy = reference.square().sum(dim=-1, keepdim=True)  # (B, C, 1)
    refuse_clips("reference", (energy <= ENERGY_FLOOR).flatten(1).any(dim=1), "silent")
    scale = (prediction * reference).sum(dim=-1, keepdim=True) / (energy + ENERGY_FLOOR)
    target = scale * reference
    distortion = (target - prediction).square().sum(dim=-1) + ENERGY_FLOOR
    ratio = 10 * torch.log10(target.square().sum(dim=-1) / distortion + ENERGY_FLOOR)
    return reduce_clips(ratio.mean(dim=1).float(), reduction)


def magnitude(
    waveform: torch.Tensor, fft_size: int, hop: int, window_size: int, power_floor: float = POWER_FLOOR
) -> torch.Tensor:
    """Magnitudes `(batch, channels, bins, frames)` of a centred Hann STFT, whose squares are >= the floor."""
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
    return power.clamp(min=power_floor).sqrt().reshape(batch, channels, *power.shape[1:])


def _spectral_distance(prediction: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Convergence + log-magnitude distance `(batch,)` of magnitudes (batch, channels, bins, frames)."""
    error = torch.linalg.vector_norm((reference - prediction).flatten(1), dim=1)
    convergence = error / torch.linalg.vector_norm(reference.flatten(1), dim=1)
    return convergence + (reference.log() - prediction.log()).abs().flatten(1).mean(dim=1)


@lru_cache(maxsize=16)
def mel_filters(sampling_rate: int, fft_size: int, bands: int) -> torch.Tensor:
    """Slaney's triangles of unit area (bands, bins)."""
    check_rate("sampling_rate", sampling_rate)
    with warnings.catch_warnings():
        # Empty bands are dealt with by the metrics.
        warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
        filters = mel_filter_bank(
            fft_size // 2 + 1, bands, 0.0, sampling_rate / 2, sampling_rate, norm="slaney", mel_scale="slaney"
        )
    return torch.from_numpy(filters).float().T.contiguous()
