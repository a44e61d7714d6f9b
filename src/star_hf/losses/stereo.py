"""Stereo loss: the correlation of left and right, per frame and octave."""

import torch

_POWER_FLOOR = 1e-8
# ‖l‖ ‖r‖ as a share of ‖l‖² + ‖r‖² below which the correlation fades: one channel 60 dB below the other.
_IMBALANCE_FLOOR = 1e-3
_LOWEST_BAND = 4


def stereo_correlation_loss(
    prediction: torch.Tensor, target: torch.Tensor, fft_size: int = 2048, hop_ratio: float = 0.5
) -> torch.Tensor:
    r"""Distance of the correlation coefficients of left and right, a scalar from 0 to 2.

    In every frame of the STFT and every octave band b, the coefficient of the spectra L and R is
    \(\rho = \operatorname{Re} \sum_{k \in b} L_k \overline{R_k}
    / \sqrt{\sum_{k \in b} |L_k|^2 \sum_{k \in b} |R_k|^2}\):
    1 for a phantom centre, 0 for independent or quadrature channels, −1 for opposite polarity. The loss is
    the mean of \(|\rho_{prediction} - \rho_{target}|\), weighted in each clip by the target's amplitude
    \(\sqrt{\sum |L|^2 + |R|^2}\) in the frame and band; clips are averaged. The gradient flows to
    `prediction` alone.

    Neither a gain on both channels nor a panning law that keeps both channels audible changes it: levels are
    the spectral loss's matter. Where one channel is more than 60 dB below the other, as in a recording with
    one silent channel, ρ fades to 0 instead of being that of the leakage.

    εar-VAE's correlation loss serves the same end, stereo coherence; its published code correlates each
    channel's spectrum with its target's, 1 − mean cos of their phase difference.

    Source: Wang et al., "Back to Ear: Perceptually Driven High Fidelity Music Reconstruction"
    (arXiv 2509.14912).

    Args:
        prediction, target: stereo waveforms, `(batch, 2, samples)`.
        fft_size: FFT and window length in samples (Hann), at least 8; frames lie within the clip. The bands
            are bins 0-3, 4-7, 8-15, … up to the Nyquist frequency.
        hop_ratio: hop as a fraction of the FFT size, in (0, 1].

    Raises:
        ValueError: if the waveforms differ in shape, are not stereo or shorter than a frame, or another
            argument is out of range.
    """
    if prediction.shape != target.shape or prediction.ndim != 3 or prediction.shape[1] != 2:
        raise ValueError(
            "`prediction` and `target` must have one shape (batch, 2 channels, samples), not "
            f"{tuple(prediction.shape)} and {tuple(target.shape)}."
        )
    if fft_size < 2 * _LOWEST_BAND:
        raise ValueError(f"`fft_size` must be at least {2 * _LOWEST_BAND}, not {fft_size}.")
    if not 0 < hop_ratio <= 1:
        raise ValueError(f"`hop_ratio` must be in (0, 1], not {hop_ratio}.")
    if prediction.shape[-1] < fft_size:
        raise ValueError(
            f"Clips of {prediction.shape[-1]} samples are shorter than a frame of `fft_size` {fft_size}."
        )
    hop = max(1, round(hop_ratio * fft_size))
    correlation, _ = _band_correlation(prediction, fft_size, hop)
    with torch.no_grad():
        target_correlation, power = _band_correlation(target, fft_size, hop)
        weight = torch.where(power > _POWER_FLOOR, power, 0).sqrt()
        weight = weight / weight.sum((-2, -1), keepdim=True).clamp(min=_POWER_FLOOR)
    return ((correlation - target_correlation).abs() * weight).sum((-2, -1)).mean()


def _band_correlation(waveform: torch.Tensor, fft_size: int, hop: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlation of left and right, and power of both, `(batch, frames, bands)`, in float32 at least."""
    dtype = torch.promote_types(waveform.dtype, torch.float32)
    with torch.autocast(waveform.device.type, enabled=False):
        window = torch.hann_window(fft_size, dtype=dtype, device=waveform.device)
        spectrum = torch.fft.rfft(waveform.to(dtype).unfold(-1, fft_size, hop) * window)
        left, right = torch.view_as_real(spectrum).unbind(1)  # (B, frames, bins, 2)
        left_power, right_power, product = (
            _octave_sums((a * b).sum(-1)) for a, b in ((left, left), (right, right), (left, right))
        )
        power = left_power + right_power
        # The square root of a maximum, not the maximum of roots: silence has a gradient of zero.
        floor = (_IMBALANCE_FLOOR * power).square().clamp(min=_POWER_FLOOR**2)
        return product / torch.maximum(left_power * right_power, floor).sqrt(), power


def _octave_sums(spectrum: torch.Tensor) -> torch.Tensor:
    """Sums of `(..., bins)` over bins 0-3, 4-7, 8-15, …; the last band takes the Nyquist bin too."""
    bins = spectrum.shape[-1]
    edges = [0, _LOWEST_BAND]
    while 2 * edges[-1] < bins - 1:
        edges.append(2 * edges[-1])
    sizes = [stop - start for start, stop in zip(edges, [*edges[1:], bins], strict=True)]
    return torch.stack([band.sum(-1) for band in spectrum.split(sizes, dim=-1)], dim=-1)
