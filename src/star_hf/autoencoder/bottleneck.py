"""The bottlenecks of `AutoencoderStar`: what its encoder gives, and which posterior follows from that."""

import math
from typing import Any

import torch

from star_hf.regularizers.sigma_vae import check_sigma

from .posterior import DeterministicPosterior, DiagonalGaussianPosterior, FixedSigmaPosterior, Posterior

BOTTLENECKS = ("gaussian", "sigma", "soft_normalization")
#: Scales start here: with a standard deviation near softplus(-3) = 0.05, not 0.7, the decoder sees the
#: latents from the start.
INITIAL_SCALE = -3.0


def check_bottleneck(
    bottleneck: str,
    sigma: float | None,
    latent_noise: float = 0.0,
    regularizer: dict[str, Any] | None = None,
) -> None:
    """Raise a ValueError that names the first of these that no model can have."""
    if bottleneck not in BOTTLENECKS:
        raise ValueError(f"`bottleneck` must be one of {', '.join(BOTTLENECKS)}, not {bottleneck!r}.")
    if bottleneck == "sigma":
        if sigma is None:
            raise ValueError(
                "`bottleneck` 'sigma' needs `sigma`, the standard deviation of the noise's scale."
            )
        check_sigma(sigma)
    elif sigma is not None:
        raise ValueError(f"`sigma` belongs to the bottleneck 'sigma', not to {bottleneck!r}.")
    if not 0 <= latent_noise < math.inf:
        raise ValueError(f"`latent_noise` must be at least 0 and finite, not {latent_noise}.")
    if regularizer is not None and not isinstance(regularizer, dict):
        raise ValueError(f"`regularizer` must be a dict or None, not {regularizer!r}.")


def projection_channels(bottleneck: str, latent_channels: int) -> int:
    """Outputs of the encoder: means alone, or means and scales."""
    return 2 * latent_channels if bottleneck == "gaussian" else latent_channels


def make_posterior(parameters: torch.Tensor, bottleneck: str, sigma: float | None) -> Posterior:
    if bottleneck == "gaussian":
        return DiagonalGaussianPosterior(parameters)
    if bottleneck == "sigma":
        return FixedSigmaPosterior(parameters, sigma)
    return DeterministicPosterior(parameters)
