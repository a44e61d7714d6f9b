"""Waveform ⇄ continuous latents."""

from .autoencoder_star import AutoencoderStar
from .bottleneck import BOTTLENECKS
from .outputs import AutoencoderStarDecoderOutput, AutoencoderStarEncoderOutput, AutoencoderStarOutput
from .posterior import DeterministicPosterior, DiagonalGaussianPosterior, FixedSigmaPosterior, Posterior

__all__ = [
    "BOTTLENECKS",
    "AutoencoderStar",
    "AutoencoderStarDecoderOutput",
    "AutoencoderStarEncoderOutput",
    "AutoencoderStarOutput",
    "DeterministicPosterior",
    "DiagonalGaussianPosterior",
    "FixedSigmaPosterior",
    "Posterior",
]
