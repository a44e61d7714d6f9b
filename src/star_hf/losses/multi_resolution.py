"""What losses on STFTs of several resolutions share: transforms, mid and side, and the gradient beside it."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from .stft import ShortTimeFourierTransform


class MultiResolutionLoss(nn.Module):
    """Base of losses that compare the complex spectra of two waveforms at several STFT resolutions.

    Stereo is compared as the mean of sum and difference and as left and right, each by its weight; a mono
    signal as it is. Sum and difference spectra are made from the channels' spectra, not transformed again,
    and the gradient is computed beside the loss, so that none of the intermediates outlives a clip.

    Args:
        fft_sizes: FFT and window lengths in samples (Hann), even.
        hop_ratio: hop as a fraction of the FFT size, one over a whole number.
        sum_difference_weight: weight of the mean of sum and difference.
        left_right_weight: weight of left and of right.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int],
        hop_ratio: float,
        sum_difference_weight: float,
        left_right_weight: float,
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
        for size in self.fft_sizes:
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)

    def spectral_distance(
        self, spectra: torch.Tensor, needs_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Distance of complex `(2, B, frames, bins)`, prediction then target, summed over clips.

        The second result is ∂/∂re + i ∂/∂im with respect to the prediction's spectrum, `(B, frames, bins)`;
        it may be left out without `needs_gradient`. The spectra may be spoiled.
        """
        raise NotImplementedError

    def bin_gain(self, size: int) -> torch.Tensor | None:
        """Gains `(size // 2 + 1,)` on the bins of both spectra, if any."""
        return None

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
        return _ClipByClip.apply(prediction.to(dtype), target.detach().to(dtype), self)

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
            bin_gain = self.bin_gain(size)
            if bin_gain is not None:
                bin_gain = bin_gain.to(prediction.dtype)
                spectra = spectra * bin_gain
            spectra = spectra.unflatten(0, (2, batch, channels))  # (2, B, channels, frames, bins)
            slope = torch.zeros_like(spectra[0]) if needs_gradient else None
            for weight, gains in self._mixes(channels):
                distance, pull = self.spectral_distance(_mix(spectra, gains), needs_gradient)
                loss += weight * distance
                if needs_gradient:
                    for channel, gain in enumerate(gains):
                        if gain:
                            slope[:, channel].add_(pull, alpha=gain * weight)
            if needs_gradient:
                if bin_gain is not None:
                    slope *= bin_gain
                gradient += transform.adjoint(slope.flatten(0, 1), samples).view_as(gradient)
        scale = 1 / len(self.fft_sizes)
        return loss * scale, gradient * scale if needs_gradient else None

    def _mixes(self, channels: int) -> list[tuple[float, tuple[float, ...]]]:
        """Weight of each compared signal and the gains that mix it from the channels."""
        if channels == 1:
            return [(1.0, (1.0,))]
        half = self.sum_difference_weight / 2
        side = self.left_right_weight
        mixes = [(half, (1.0, 1.0)), (half, (1.0, -1.0)), (side, (1.0, 0.0)), (side, (0.0, 1.0))]
        return [(weight, gains) for weight, gains in mixes if weight]


def _mix(spectra: torch.Tensor, gains: tuple[float, ...]) -> torch.Tensor:
    """Σ gain · channel of `(2, B, channels, frames, bins)`, always a new tensor."""
    first, *rest = [(gain, spectra[:, :, channel]) for channel, gain in enumerate(gains) if gain]
    mixed = first[0] * first[1]
    for gain, spectrum in rest:
        mixed.add_(spectrum, alpha=gain)
    return mixed


class _ClipByClip(torch.autograd.Function):
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
