"""σ-VAE: the encoder gives the mean, and the noise on it is of a designed scale.

Source: Sun et al., "Multimodal Latent Language Modeling with Next-Token Diffusion" (LatentLM, arXiv
2412.08635), section on the variational autoencoder with fixed variance.
"""

import math
from collections.abc import Callable

import torch


def sigma_noise(mean: torch.Tensor, sigma: float, normal: Callable[..., torch.Tensor]) -> torch.Tensor:
    """σ · ε of z = μ + σ · ε, with ε ~ N(0, I) and one σ ~ N(0, sigma²) for each example.

    A Gaussian VAE trained for reconstruction can shrink its posterior's standard deviation channel by
    channel until the latents are points; a generator's small errors then leave the region that the decoder
    knows. Here the variance cannot collapse, because no weight of the encoder enters it: its average over
    the draws of σ is sigma² in every channel and frame. That one example gets almost no noise and another
    twice the usual makes the decoder good at all scales up to about 2 · sigma. What the encoder can still do
    is to scale its mean up against the noise, so the mean needs a penalty of its own: see `mean_energy`.

    Args:
        mean: `(batch, channels, frames)`.
        sigma: standard deviation of σ, in the latents' units.
        normal: `normal(*shape)` gives standard normal numbers `(batch, *shape)`; it is asked for (1, 1) and
            then for (channels, frames).

    Returns:
        The noise, `(batch, channels, frames)`.

    Raises:
        ValueError: if `mean` has another number of dimensions or `sigma` is not a positive number.
    """
    check_sigma(sigma)
    if mean.ndim != 3:
        raise ValueError(f"`mean` must have shape (batch, channels, frames), not {tuple(mean.shape)}.")
    per_example = sigma * normal(1, 1)
    return per_example * normal(*mean.shape[1:])


def check_sigma(sigma: float) -> None:
    """Raise a ValueError if `sigma` is not a positive number."""
    if not 0 < sigma < math.inf:
        raise ValueError(f"`sigma` must be positive and finite, not {sigma}.")
