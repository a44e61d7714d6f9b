"""Resampling of whole batches on their own device, for models that listen at another rate."""

import math
from functools import lru_cache

import torch
from torch.nn import functional as F

from ..audio import resample

# The window's half length in samples of the lower rate, its shape, and the filter's corner: flat to 90% of
# the lower rate's band, 100 dB down from its Nyquist frequency on.
_HALF_WIDTH = 64
_KAISER_BETA = 10.0
_CUTOFF = 0.95
# Rates without a common divisor would need a filter for each sample of a second.
_MOST_TAPS = 4_000_000


def resample_batch(waveform: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
    """Resample `(batch, samples)` float32 on its device, `ceil(samples · to_rate / from_rate)` samples.

    A polyphase sinc filter under a Kaiser window, without delay. The rates are in Hz; pairs whose filter bank
    would be too large are resampled by soxr on the CPU.

    Raises:
        ValueError: if a rate is not a positive integer.
    """
    for name, rate in (("from_rate", from_rate), ("to_rate", to_rate)):
        if isinstance(rate, bool) or not isinstance(rate, int) or rate < 1:
            raise ValueError(f"`{name}` must be a positive number of Hz (int), not {rate!r}.")
    if from_rate == to_rate:
        return waveform
    divisor = math.gcd(from_rate, to_rate)
    old, new = from_rate // divisor, to_rate // divisor
    samples = waveform.shape[-1]
    wanted = -(-samples * new // old)
    half_width = _half_width(old, new)
    if new * (2 * half_width + old) > _MOST_TAPS:
        resampled = resample(waveform, from_rate, to_rate)[:, :wanted]
        return F.pad(resampled, (0, wanted - resampled.shape[-1]))
    # Each stride of `old` samples gives `new` outputs, one for each of the filters.
    filters = _filters(old, new, waveform.device)
    blocks = -(-wanted // new)
    padded = F.pad(waveform, (half_width, blocks * old + half_width - samples))
    with torch.autocast(waveform.device.type, enabled=False):
        phases = F.conv1d(padded[:, None], filters[:, None], stride=old)  # (B, new, blocks)
    return phases.transpose(1, 2).flatten(1)[:, :wanted]


def _half_width(old: int, new: int) -> int:
    return math.ceil(_HALF_WIDTH * max(1.0, old / new))


@lru_cache(maxsize=8)
def _filters(old: int, new: int, device: torch.device) -> torch.Tensor:
    """`(new, 2 · half_width + old)`: filter p gives the output at the input's position p · old / new."""
    with torch.inference_mode(False), torch.no_grad():
        half_width = _half_width(old, new)
        taps = torch.arange(-half_width, half_width + old, dtype=torch.float64)
        distance = taps - torch.arange(new, dtype=torch.float64)[:, None] * old / new
        cutoff = _CUTOFF * min(1.0, new / old)
        inside = (1 - (distance / half_width).square()).clamp(min=0)
        window = torch.special.i0(_KAISER_BETA * inside.sqrt()) / torch.special.i0(
            torch.tensor(_KAISER_BETA, dtype=torch.float64)
        )
        filters = cutoff * torch.sinc(cutoff * distance) * window * (distance.abs() <= half_width)
        return filters.float().to(device)
