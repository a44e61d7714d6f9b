"""Multi-resolution STFT loss on sum, difference, left and right signals."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from .stft import ShortTimeFourierTransform

_POWER_FLOOR = 1e-8


class MultiResolutionSTFTLoss(nn.Module):
    r"""Spectral convergence and log-magnitude distance over several STFT resolutions, as Stable Audio Open's.

    For magnitudes P of the prediction and T of the target, one resolution contributes
    \(w_{sc} \lVert T - P\rVert_F / \max(\lVert T\rVert_F, \lVert P\rVert_F)
    + w_{log} \operatorname{mean}|\ln T - \ln P|\), per clip and signal; clips and resolutions are averaged.
    The denominator is a constant to the gradient; taking the larger norm bounds the term where the target is
    silent, as the difference of a mono recording's channels is. Magnitudes are clamped at 1e-4.

    Stereo adds the mean of the sum's and the difference's distance and those of left and right, each by its
    weight; a mono signal is compared as it is. Sum and difference spectra are made from the channels'
    spectra, not transformed again, and the gradient is computed beside the loss, so that none of the
    intermediates outlives a clip.

    Source: Yamamoto et al., "Parallel WaveGAN" (2020), eqs. 4-6; Evans et al., "Stable Audio Open" (2024),
    section 3.

    Args:
        fft_sizes: FFT and window lengths in samples (Hann), even.
        hop_ratio: hop as a fraction of the FFT size, one over a whole number.
        sum_difference_weight: weight of the mean of sum and difference.
        left_right_weight: weight of left and of right.
        convergence_weight, log_magnitude_weight: of the two terms.
        a_weighting: weight the spectra by the A curve (IEC 61672) before comparing.
        sampling_rate: in Hz, for the A curve.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int] = (2048, 1024, 512, 256, 128, 64, 32),
        hop_ratio: float = 0.25,
        sum_difference_weight: float = 1.0,
        left_right_weight: float = 0.5,
        convergence_weight: float = 1.0,
        log_magnitude_weight: float = 1.0,
        a_weighting: bool = False,
        sampling_rate: int = 44100,
    ):
        super().__init__()
        if not 0 < hop_ratio <= 1 or not (1 / hop_ratio).is_integer():
            raise ValueError(f"`hop_ratio` must be one over a whole number, not {hop_ratio}.")
        overlap = round(1 / hop_ratio)
        if not fft_sizes or any(size % 2 or size % overlap or size < overlap for size in fft_sizes):
            raise ValueError(f"`fft_sizes` must be even multiples of {overlap}, not {list(fft_sizes)}.")
        self.fft_sizes = tuple(fft_sizes)
        self.overlap = overlap
        self.sum_difference_weight = sum_difference_weight
        self.left_right_weight = left_right_weight
        self.convergence_weight = convergence_weight
        self.log_magnitude_weight = log_magnitude_weight
        self.a_weighting = a_weighting
        for size in self.fft_sizes:
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)
            if a_weighting:
                gain = a_weighting_gain(torch.linspace(0, sampling_rate / 2, size // 2 + 1))
                self.register_buffer(f"gain_{size}", gain, persistent=False)

    def _mixes(self, channels: int) -> list[tuple[float, tuple[float, ...]]]:
        """Weight of each compared signal and the gains that mix it from the channels."""
        if channels == 1:
            return [(1.0, (1.0,))]
        half = self.sum_difference_weight / 2
        side = self.left_right_weight
        mixes = [(half, (1.0, 1.0)), (half, (1.0, -1.0)), (side, (1.0, 0.0)), (side, (0.0, 1.0))]
        return [(weight, gains) for weight, gains in mixes if weight]

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compare two waveforms `(batch, channels, samples)` with one or two channels; returns a scalar.

        The gradient flows to `prediction` alone, and once (no second derivatives).

        Raises:
            ValueError: if the shapes differ, there are more than two channels, or the clip is no longer than
                half the longest window, which the transform's reflection at the ends needs.
        """
        if prediction.shape != target.shape or prediction.ndim != 3 or prediction.shape[1] not in (1, 2):
            raise ValueError(
                "`prediction` and `target` must have one shape (batch, 1 or 2 channels, samples), not "
                f"{tuple(prediction.shape)} and {tuple(target.shape)}."
            )
        if prediction.shape[-1] <= max(self.fft_sizes) // 2:
            raise ValueError(
                f"Clips of {prediction.shape[-1]} samples are too short for an STFT of "
                f"{max(self.fft_sizes)}; shorten `fft_sizes` or lengthen the clips."
            )
        dtype = torch.promote_types(prediction.dtype, torch.float32)
        return _SpectralDistance.apply(prediction.to(dtype), target.detach().to(dtype), self)

    def clip_loss_and_gradient(
        self, prediction: torch.Tensor, target: torch.Tensor, needs_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Summed loss of clips `(batch, channels, samples)` and its gradient with respect to `prediction`."""
        batch, channels, samples = prediction.shape
        loss, gradient = prediction.new_zeros(()), torch.zeros_like(prediction) if needs_gradient else None
        both = torch.cat([prediction, target]).flatten(0, 1)
        for size in self.fft_sizes:
            window = getattr(self, f"window_{size}").to(prediction.dtype)
            transform = ShortTimeFourierTransform(size, size // self.overlap, window)
            spectra = transform.forward(both)
            if self.a_weighting:
                spectra = spectra * getattr(self, f"gain_{size}").to(prediction.dtype)
            spectra = spectra.unflatten(0, (2, batch, channels))  # (2, B, channels, frames, bins)
            slope = torch.zeros_like(spectra[0]) if needs_gradient else None
            for weight, gains in self._mixes(channels):
                mixed = _mix(spectra, gains)
                distance, factor = self._distance(mixed.real.square() + mixed.imag.square())
                loss += weight * distance
                if needs_gradient:
                    pull = mixed[0].mul_(factor.mul_(weight))
                    for channel, gain in enumerate(gains):
                        if gain:
                            slope[:, channel].add_(pull, alpha=gain)
            if needs_gradient:
                if self.a_weighting:
                    slope *= getattr(self, f"gain_{size}").to(prediction.dtype)
                gradient += transform.adjoint(slope.flatten(0, 1), samples).view_as(gradient)
        scale = 1 / len(self.fft_sizes)
        return loss * scale, gradient * scale if needs_gradient else None

    def _distance(self, power: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Distance of power spectra `(2, B, frames, bins)`, prediction then target, summed over clips.

        The second result f gives the gradient with respect to the prediction's spectrum X as f · X.
        """
        audible = power[0] > _POWER_FLOOR
        power = power.clamp_(min=_POWER_FLOOR)
        magnitude, target_magnitude = power.sqrt()
        difference = magnitude - target_magnitude
        error = torch.linalg.vector_norm(difference, dim=(1, 2))
        norms = (torch.linalg.vector_norm(m, dim=(1, 2)) for m in (magnitude, target_magnitude))
        scale = torch.maximum(*norms)
        log_ratio = torch.log(power[0] / power[1]).mul_(0.5)
        elements = log_ratio[0].numel()
        distance = self.convergence_weight * (error / scale).sum()
        distance = distance + self.log_magnitude_weight * log_ratio.abs().sum() / elements
        # d|X| = X/|X| and d ln|X| = X/|X|².
        slope = (self.convergence_weight / (error * scale).clamp(min=1e-20))[:, None, None]
        factor = difference.mul_(slope).div_(magnitude)
        factor += log_ratio.sign_().mul_(self.log_magnitude_weight / elements).div_(power[0])
        return distance, factor.mul_(audible)


def _mix(spectra: torch.Tensor, gains: tuple[float, ...]) -> torch.Tensor:
    """Σ gain · channel of `(2, B, channels, frames, bins)`, always a new tensor."""
    first, *rest = [(gain, spectra[:, :, channel]) for channel, gain in enumerate(gains) if gain]
    mixed = first[0] * first[1]
    for gain, spectrum in rest:
        mixed.add_(spectrum, alpha=gain)
    return mixed


class _SpectralDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, prediction, target, loss):
        needs_gradient = ctx.needs_input_grad[0]
        # One clip at a time on a CPU: its spectra stay in the cache.
        step = 1 if prediction.device.type == "cpu" else prediction.shape[0]
        parts = [
            loss.clip_loss_and_gradient(p, t, needs_gradient)
            for p, t in zip(prediction.split(step), target.split(step), strict=True)
        ]
        batch = prediction.shape[0]
        if needs_gradient:
            ctx.save_for_backward(torch.cat([gradient for _, gradient in parts]) / batch)
        return torch.stack([value for value, _ in parts]).sum() / batch

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None, None


def a_weighting_gain(frequency: torch.Tensor) -> torch.Tensor:
    """Gain of the A curve (IEC 61672-1) at `frequency` in Hz, 1 at 1 kHz; of the shape of `frequency`."""
    dtype = frequency.dtype if frequency.is_floating_point() else torch.get_default_dtype()
    squared = frequency.double().square()

    def response(f2):
        return (
            12194.0**2
            * f2.square()
            / ((f2 + 20.6**2) * (f2 + 12194.0**2) * torch.sqrt((f2 + 107.7**2) * (f2 + 737.9**2)))
        )

    return (response(squared) / response(torch.tensor(1e6, dtype=torch.float64))).to(dtype)
