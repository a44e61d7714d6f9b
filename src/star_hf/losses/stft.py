"""Short-time Fourier transform with a cheap adjoint, for losses that know their own gradient."""

import torch
from torch.nn import functional as F


class ShortTimeFourierTransform:
    """Centered STFT with a Hann window and reflection at the ends, equal to `torch.stft`, and its adjoint.

    The adjoint replaces automatic differentiation: one inverse real FFT and one overlap-add in place of a
    complex FFT of full length and a scatter.

    Args:
        size: FFT and window length in samples, even.
        hop: must divide `size`.
        window: `(size,)`.
    """

    def __init__(self, size: int, hop: int, window: torch.Tensor):
        self.size, self.hop, self.window = size, hop, window

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """`(signals, samples)` → complex `(signals, frames, size // 2 + 1)`."""
        half = self.size // 2
        padded = F.pad(waveform.unsqueeze(0), (half, half), mode="reflect").squeeze(0)
        return torch.fft.rfft(padded.unfold(-1, self.size, self.hop) * self.window)

    def adjoint(self, gradient: torch.Tensor, samples: int) -> torch.Tensor:
        """∂/∂waveform of ∂/∂(re + i·im): `(signals, frames, bins)`, spoiled, → `(signals, samples)`."""
        signals, frames, _ = gradient.shape
        # irfft counts every bin but the first and the last twice, and divides by the size.
        gradient[..., 1:-1] /= 2
        pieces = torch.fft.irfft(gradient, n=self.size, norm="forward") * self.window
        overlap = self.size // self.hop
        pieces = pieces.view(signals, frames, overlap, self.hop)
        padded = gradient.real.new_zeros(signals, frames + overlap - 1, self.hop)
        for offset in range(overlap):
            padded[:, offset : offset + frames] += pieces[:, :, offset]
        padded = padded.flatten(1)
        half = self.size // 2
        padded = F.pad(padded, (0, max(0, samples + self.size - padded.shape[-1])))[:, : samples + self.size]
        waveform = padded[:, half : half + samples].clone()
        waveform[:, 1 : half + 1] += padded[:, :half].flip(-1)
        waveform[:, -half - 1 : -1] += padded[:, half + samples :].flip(-1)
        return waveform
