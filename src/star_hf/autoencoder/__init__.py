"""Waveform ⇄ continuous latents."""

from .autoencoder_star import (
    AutoencoderStar,
    AutoencoderStarDecoderOutput,
    AutoencoderStarEncoderOutput,
    AutoencoderStarOutput,
)
from .posterior import DiagonalGaussianPosterior

__all__ = [
    "AutoencoderStar",
    "AutoencoderStarDecoderOutput",
    "AutoencoderStarEncoderOutput",
    "AutoencoderStarOutput",
    "DiagonalGaussianPosterior",
]
