"""Measuring: reconstruction, latent capacity, what clips are recognized as, whether they are copies, plots.

`reconstruction` and `latents` need nothing beyond the library; `classifier`, `plots` and the `evaluate`
modules in `metrics/` need its extra `eval`.
"""

from .latents import ChannelKL, LatentProfile
from .reconstruction import mel_distance, si_sdr, stft_distance

__all__ = ["ChannelKL", "LatentProfile", "mel_distance", "si_sdr", "stft_distance"]
