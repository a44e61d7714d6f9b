"""KL divergence of a diagonal Gaussian posterior from N(0, 1), and what follows from it.

Everything here takes `mean` and `std` of shape `(batch, channels, frames)`, so it serves any variational
autoencoder.
"""

import math

import torch


def _check(mean: torch.Tensor, std: torch.Tensor) -> None:
    if mean.ndim != 3 or mean.shape != std.shape:
        raise ValueError(
            "`mean` and `std` must both have shape (batch, channels, frames), not "
            f"{tuple(mean.shape)} and {tuple(std.shape)}."
        )


def kl_divergence(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, std²) ‖ N(0, 1)) = ½(μ² + σ² − ln σ² − 1), elementwise, in nats, at least in float32.

    stable-audio-tools leaves the ½ out: a weight w there is 2w here.

    Args:
        mean, std: `(batch, channels, frames)`, std > 0.

    Raises:
        ValueError: if the shapes differ or are not three-dimensional.
    """
    _check(mean, std)
    # Squares of half precision's range and the difference below leave half precision.
    dtype = torch.promote_types(mean.dtype, torch.float32)
    mean, std = mean.to(dtype), std.to(dtype)
    return 0.5 * (mean.square() + std.square() - 1) - std.log()


def channel_kl(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Mean over batch and frames of each channel's KL, `(channels,)`, in nats per frame."""
    return kl_divergence(mean, std).mean(dim=(0, 2))


def isotropic_kl(mean: torch.Tensor, std: torch.Tensor, beta: float) -> torch.Tensor:
    """The usual penalty, β Σ_c KL_c: one weight for all channels. Returns a scalar.

    Raises:
        ValueError: if `beta` is negative or not finite.
    """
    if not 0 <= beta < math.inf:
        raise ValueError(f"`beta` must be at least 0 and finite, not {beta}.")
    return beta * channel_kl(mean, std).sum()


def mean_energy(mean: torch.Tensor) -> torch.Tensor:
    """Σ_c ½ E[μ_c²], a scalar: what the KL from N(0, 1) still trains where σ is not the encoder's to set.

    A σ-VAE without it can outgrow its noise.

    Args:
        mean: `(batch, channels, frames)`.

    Raises:
        ValueError: if `mean` is not three-dimensional.
    """
    _check(mean, mean)
    return 0.5 * mean.to(torch.promote_types(mean.dtype, torch.float32)).square().mean(dim=(0, 2)).sum()


def rate_kbps(mean: torch.Tensor, std: torch.Tensor, frame_rate: float) -> torch.Tensor:
    """Rate of the latents, Σ_c KL_c / ln 2 · frame_rate / 1000, in kbit/s.

    Raises:
        ValueError: if `frame_rate` is not a positive number.
    """
    if not 0 < frame_rate < math.inf:
        raise ValueError(f"`frame_rate` must be a positive number of frames per second, not {frame_rate}.")
    return channel_kl(mean, std).sum() / math.log(2) * frame_rate / 1000
