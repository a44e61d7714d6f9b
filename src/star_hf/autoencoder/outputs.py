"""What the methods of `AutoencoderStar` return."""

from dataclasses import dataclass

import torch
from diffusers.utils import BaseOutput

from .posterior import Posterior


@dataclass
class AutoencoderStarEncoderOutput(BaseOutput):
    """`latent_dist`: the posterior over latents `(batch, latent_channels, frames)`."""

    latent_dist: Posterior


@dataclass
class AutoencoderStarDecoderOutput(BaseOutput):
    """`sample`: the waveform `(batch, audio_channels, samples)`."""

    sample: torch.Tensor


@dataclass
class AutoencoderStarOutput(BaseOutput):
    """`sample`: the reconstruction, as long as the input; `latent_dist`: the posterior it was made from."""

    sample: torch.Tensor
    latent_dist: Posterior
