"""A control for measurements: a clip whose pitch is gone and whose spectral envelope is kept."""

from __future__ import annotations

import math

import torch
from transformers.audio_utils import mel_filter_bank

FFT_SIZE, HOP, MEL_BANDS = 2048, 512, 64


def noise_vocode(waveform: torch.Tensor, sampling_rate: int, seed: int = 0) -> torch.Tensor:
    """Noise with the energy of `waveform` in 64 mel bands and steps of 512 samples, `(channels, samples)`.

    Harmonics and phases are lost, loudness and colour stay: what a measurement gives for it tells how much
    that measurement depends on pitch. Raises `ValueError` for another number of dimensions or too short a
    clip.
    """
    if waveform.ndim != 2 or waveform.shape[1] <= FFT_SIZE // 2:
        raise ValueError(
            f"`waveform` must be (channels, samples > {FFT_SIZE // 2}), got {tuple(waveform.shape)}."
        )
    window = torch.hann_window(FFT_SIZE)
    spectrum = torch.stft(waveform.float(), FFT_SIZE, HOP, window=window, return_complex=True)
    power = _smooth_over_bands(spectrum.abs().square(), sampling_rate)
    phase = 2 * math.pi * torch.rand(power.shape, generator=torch.Generator().manual_seed(seed))
    noise = torch.polar(power.sqrt(), phase)
    noise = torch.istft(noise, FFT_SIZE, HOP, window=window, length=waveform.shape[1])
    # Overlapping frames of random phase cancel in part.
    return noise * (_level(waveform) / _level(noise).clamp(min=1e-12))


def _level(waveform: torch.Tensor) -> torch.Tensor:
    return waveform.float().square().mean(dim=1, keepdim=True).sqrt()


def _smooth_over_bands(power: torch.Tensor, sampling_rate: int) -> torch.Tensor:
    """Each bin of (channels, bins, frames) gets the mean power of the bands that it belongs to."""
    filters = torch.from_numpy(
        mel_filter_bank(
            FFT_SIZE // 2 + 1, MEL_BANDS, 0.0, sampling_rate / 2, sampling_rate, mel_scale="slaney"
        )
    ).float()
    means = torch.einsum("fm,cft->cmt", filters / filters.sum(dim=0), power)
    shares = filters / filters.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return torch.einsum("fm,cmt->cft", shares, means)
