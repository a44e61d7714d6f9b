"""Multi-scale complex STFT discriminator."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

_NEGATIVE_SLOPE = 0.2


@dataclass
class DiscriminatorOutput:
    """What a discriminator says of a batch, one entry per scale.

    `logits` are `(batch, 1, frames, bins)`, positive for real; `features` are the hidden layers' activations,
    each `(batch, filters, frames, bins)`.
    """

    logits: list[torch.Tensor]
    features: list[list[torch.Tensor]]


class MultiScaleSTFTDiscriminator(nn.Module):
    r"""Convolutional discriminators on the complex STFT of a waveform at several window lengths.

    Each scale sees the real and imaginary parts of every channel as the image `(frames, bins)` and runs a
    convolution of `kernel_size`, one more for each of `dilations`, one of `(kernel_size[0], kernel_size[0])`,
    each followed by a leaky ReLU of slope 0.2, and a last one to a single channel. All have stride 1 and
    weight norm. With the defaults, those of Stable Audio Open, it has 1,883,850 parameters.

    The STFT is uncentred, with a Hann window w, and divided by \(\sqrt{\sum_n w_n^2}\); it is computed in
    float32 at least, whatever autocast is active. Convolutions run channels-last.

    Source: Défossez et al., "High Fidelity Neural Audio Compression" (2022), section 3.4; Evans et al.,
    "Stable Audio Open" (2024), section 3.

    Args:
        audio_channels: channels of the waveform.
        fft_sizes: FFT and window lengths in samples, one for each scale.
        hop_ratio: hop as a fraction of the FFT size, one over a whole number.
        filters: channels of the hidden layers.
        kernel_size: over (time, frequency), odd.
        dilations: along time, one for each dilated layer.
    """

    def __init__(
        self,
        audio_channels: int = 2,
        fft_sizes: Sequence[int] = (2048, 1024, 512, 256, 128),
        hop_ratio: float = 0.25,
        filters: int = 64,
        kernel_size: tuple[int, int] = (3, 9),
        dilations: Sequence[int] = (1, 2, 4),
    ):
        super().__init__()
        if not 0 < hop_ratio <= 1 or not (1 / hop_ratio).is_integer():
            raise ValueError(f"`hop_ratio` must be one over a whole number, not {hop_ratio}.")
        overlap = round(1 / hop_ratio)
        if not fft_sizes or any(size % 2 or size % overlap or size < overlap for size in fft_sizes):
            raise ValueError(f"`fft_sizes` must be even multiples of {overlap}, not {list(fft_sizes)}.")
        if len(kernel_size) != 2 or any(size < 1 or size % 2 == 0 for size in kernel_size):
            raise ValueError(f"`kernel_size` must be two odd numbers (time, frequency), not {kernel_size}.")
        if any(dilation < 1 for dilation in dilations):
            raise ValueError(f"`dilations` must be at least 1, not {list(dilations)}.")
        self.audio_channels = audio_channels
        self.scales = nn.ModuleList(
            _SpectrumDiscriminator(size, size // overlap, 2 * audio_channels, filters, kernel_size, dilations)
            for size in fft_sizes
        )

    def forward(self, waveform: torch.Tensor) -> DiscriminatorOutput:
        """Judge a waveform `(batch, audio_channels, samples)`.

        Raises:
            ValueError: if it has another shape or is shorter than the longest window.
        """
        if waveform.ndim != 3 or waveform.shape[1] != self.audio_channels:
            raise ValueError(
                f"`waveform` must be (batch, {self.audio_channels} channels, samples), not of shape "
                f"{tuple(waveform.shape)}."
            )
        longest = max(scale.fft_size for scale in self.scales)
        if waveform.shape[-1] < longest:
            raise ValueError(
                f"`waveform` must have at least {longest} samples, the longest window, not "
                f"{waveform.shape[-1]}."
            )
        results = [scale(waveform) for scale in self.scales]
        return DiscriminatorOutput([logits for logits, _ in results], [features for _, features in results])


class _SpectrumDiscriminator(nn.Module):
    def __init__(self, fft_size, hop, in_channels, filters, kernel_size, dilations):
        super().__init__()
        self.fft_size, self.hop = fft_size, hop
        square = (kernel_size[0], kernel_size[0])
        self.hidden = nn.ModuleList(
            [
                _convolution(in_channels, filters, kernel_size),
                *(_convolution(filters, filters, kernel_size, dilation) for dilation in dilations),
                _convolution(filters, filters, square),
            ]
        )
        self.output = _convolution(filters, 1, square)

    def spectrum(self, waveform: torch.Tensor) -> torch.Tensor:
        """(batch, channels, samples) → (batch, 2 · channels, frames, bins): real parts, then imaginary."""
        batch, channels, _ = waveform.shape
        with torch.autocast(waveform.device.type, enabled=False):
            dtype = torch.promote_types(waveform.dtype, torch.float32)
            # Made here rather than kept as a buffer, which a cast of the module would round.
            window = torch.hann_window(self.fft_size, dtype=dtype, device=waveform.device)
            window = window / torch.linalg.vector_norm(window)
            frames = waveform.to(dtype).unfold(-1, self.fft_size, self.hop) * window
            spectrum = torch.view_as_real(torch.fft.rfft(frames))  # (B, channels, frames, bins, 2)
            # One copy, straight into channels-last memory.
            spectrum = spectrum.permute(0, 2, 3, 4, 1).reshape(batch, *spectrum.shape[2:4], 2 * channels)
        return spectrum.permute(0, 3, 1, 2)

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        x = self.spectrum(waveform).to(self.output.bias.dtype)
        features = []
        for convolution in self.hidden:
            # In place: the gradient follows from the activation, so the convolution's output is not kept.
            x = F.leaky_relu(convolution(x), _NEGATIVE_SLOPE, inplace=True)
            features.append(x)
        return self.output(x), features


def _convolution(in_channels, out_channels, kernel_size, dilation=1):
    padding = (dilation * (kernel_size[0] // 2), kernel_size[1] // 2)
    return weight_norm(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=(dilation, 1))
    )
