"""Measuring: reconstruction, latent capacity, and a judge of what clips are. Plots are in `evaluation.plots`."""

from .classifier import ClipJudge, JudgeReport, clip_features, cross_validate
from .latents import ChannelKL, LatentProfile
from .reconstruction import mel_distance, si_sdr, stft_distance

__all__ = [
    "ChannelKL",
    "ClipJudge",
    "JudgeReport",
    "LatentProfile",
    "clip_features",
    "cross_validate",
    "mel_distance",
    "si_sdr",
    "stft_distance",
]
