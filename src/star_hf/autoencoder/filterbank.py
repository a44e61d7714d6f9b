"""An orthonormal multi-band front end: audio at the sampling rate ⇄ critically sampled bands."""

import math

import torch
from torch import nn


class LappedTransform(nn.Module):
    r"""Splits audio into `bands` frequency bands, each at 1/`bands` of the rate, and puts them together again exactly.

    A cosine-modulated filter bank with filters of length 2 · `bands` (Princen & Bradley 1986, the MDCT with a sine
    window), written as orthogonal butterflies across block edges followed by a DCT-IV of each block; blocks at the ends
    of the signal keep a rectangular outer edge. The transform is orthonormal: the inverse is the transpose, and energy
    is kept. It replaces the first, most expensive stages of a waveform encoder, as RAVE's PQMF does.
    """

    def __init__(self, bands: int):
        super().__init__()
        self.bands = bands
        n = torch.arange(bands, dtype=torch.float64)
        dct = math.sqrt(2 / bands) * torch.cos(math.pi / bands * torch.outer(n + 0.5, n + 0.5))
        # Rotation angle by distance from the block edge: π/4 at the edge, 0 half a block away.
        angle = math.pi / 4 * (1 - (2 * torch.arange(bands // 2, dtype=torch.float64) + 1) / bands)
        self.register_buffer("dct", dct.float(), persistent=False)
        self.register_buffer("cosine", torch.cos(angle).float(), persistent=False)
        self.register_buffer("sine", torch.sin(angle).float(), persistent=False)

    def _rotate_edges(self, blocks: torch.Tensor, sign: int) -> torch.Tensor:
        """Rotate each pair of samples that mirror each other across an inner block edge."""
        if blocks.shape[-2] < 2:
            return blocks
        half = self.bands // 2
        before = blocks[..., :-1, half:].flip(-1)
        after = blocks[..., 1:, :half]
        cosine, sine = self.cosine.to(blocks.dtype), sign * self.sine.to(blocks.dtype)
        # The DCT-IV is even about a block's start and odd about its end, hence the signs.
        rotated_before = (cosine * before - sine * after).flip(-1)
        rotated_after = cosine * after + sine * before
        first = torch.cat([blocks[..., :1, :half], rotated_after], dim=-2)
        second = torch.cat([rotated_before, blocks[..., -1:, half:]], dim=-2)
        return torch.cat([first, second], dim=-1)

    def analyze(self, audio: torch.Tensor) -> torch.Tensor:
        """`(batch, channels, samples)` → `(batch, channels · bands, samples / bands)`; samples divisible by bands."""
        batch, channels, samples = audio.shape
        blocks = audio.reshape(batch, channels, samples // self.bands, self.bands)
        coefficients = self._rotate_edges(blocks, 1) @ self.dct.to(audio.dtype)
        return coefficients.transpose(2, 3).reshape(batch, channels * self.bands, -1)

    def synthesize(self, coefficients: torch.Tensor) -> torch.Tensor:
        """The inverse of `analyze`: `(batch, channels · bands, blocks)` → `(batch, channels, blocks · bands)`."""
        batch, width, blocks = coefficients.shape
        coefficients = coefficients.reshape(batch, width // self.bands, self.bands, blocks).transpose(2, 3)
        return self._rotate_edges(coefficients @ self.dct.to(coefficients.dtype), -1).flatten(2)
