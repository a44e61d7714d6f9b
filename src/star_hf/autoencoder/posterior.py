"""The posteriors of the autoencoders: Gaussian, of a fixed scale of noise, and deterministic."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NoReturn

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch.nn import functional as F

from star_hf.regularizers.sigma_vae import check_sigma, sigma_noise

Generators = torch.Generator | list[torch.Generator] | None
Normal = Callable[..., torch.Tensor]


class Posterior(ABC):
    """q(z|x) over latents `(batch, latent_channels, frames)`.

    Attributes:
        kind: `"gaussian"`, `"sigma"` or `"deterministic"`.
        mean, std: of each latent given x, `(batch, latent_channels, frames)`.
    """

    kind: ClassVar[str]
    mean: torch.Tensor
    std: torch.Tensor

    @abstractmethod
    def draw(self, normal: Normal, noise_scale: float = 1.0) -> torch.Tensor:
        """Latents `(batch, latent_channels, frames)` from given random numbers.

        Args:
            normal: `normal(*shape)` gives standard normal numbers `(batch, *shape)`.
            noise_scale: factor on the deviation from the mean.
        """

    def sample(self, generator: Generators = None) -> torch.Tensor:
        """A draw, `(batch, latent_channels, frames)`.

        Args:
            generator: of its noise, one for all or a list with one for each member of the batch.

        Raises:
            ValueError: if there are too few generators.
        """
        return self.draw(normal_numbers(self.mean, generator))

    def mode(self) -> torch.Tensor:
        """The mean, which is also the most probable latent."""
        return self.mean


class DiagonalGaussianPosterior(Posterior):
    """q(z|x) = N(mean, std²) with std = softplus(scale) + 1e-4, as in Stable Audio Open's autoencoder.

    Args:
        parameters: `(batch, 2 · latent_channels, frames)`, means in the first half, scales in the second.

    Attributes:
        mean, scale, std, var, logvar: `(batch, latent_channels, frames)`.
    """

    kind = "gaussian"

    def __init__(self, parameters: torch.Tensor):
        self.parameters = parameters
        self.mean, self.scale = parameters.chunk(2, dim=1)
        self.std = F.softplus(self.scale) + 1e-4

    @property
    def var(self) -> torch.Tensor:
        return self.std.square()

    @property
    def logvar(self) -> torch.Tensor:
        return 2 * self.std.log()

    def draw(self, normal: Normal, noise_scale: float = 1.0) -> torch.Tensor:
        """mean + noise_scale · std · ε; asks `normal` for (latent_channels, frames)."""
        return self.mean + noise_scale * self.std * normal(*self.mean.shape[1:])

    def kl(self) -> torch.Tensor:
        """Exact KL(q ‖ N(0, 1)) = ½(μ² + σ² − ln σ² − 1) in nats, `(batch, latent_channels, frames)`.

        diffusers' and stable-audio-tools' Oobleck posteriors leave the ½ out and sum over channels.
        """
        return 0.5 * (self.mean.square() + self.var - self.logvar - 1)


class FixedSigmaPosterior(Posterior):
    """z = mean + σ · ε with one σ ~ N(0, sigma²) for each example: the σ-VAE, see `sigma_noise`.

    Args:
        mean: `(batch, latent_channels, frames)`.
        sigma: standard deviation of σ, in the latents' units.

    Attributes:
        std: `sigma` everywhere, the exact standard deviation of a latent over the draws of σ and ε.
    """

    kind = "sigma"

    def __init__(self, mean: torch.Tensor, sigma: float):
        check_sigma(sigma)
        self.mean, self.sigma = mean, sigma

    @property
    def std(self) -> torch.Tensor:
        return torch.full_like(self.mean, self.sigma)

    def draw(self, normal: Normal, noise_scale: float = 1.0) -> torch.Tensor:
        """mean + noise_scale · σ · ε; asks `normal` for (1, 1), then for (latent_channels, frames)."""
        return self.mean + noise_scale * sigma_noise(self.mean, self.sigma, normal)

    def kl(self) -> NoReturn:
        """There is none to compute: raises a ValueError that says why."""
        raise ValueError(
            "The posterior of a σ-VAE has no closed-form KL divergence: with σ drawn for each example it is "
            "a mixture of Gaussians of all widths. Penalize the mean instead, for instance by "
            "`star_hf.regularizers.mean_energy`."
        )


class DeterministicPosterior(Posterior):
    """All of q(z|x) at the mean, as with soft normalization.

    Args:
        mean: `(batch, latent_channels, frames)`.

    Attributes:
        std: 0 everywhere.
    """

    kind = "deterministic"

    def __init__(self, mean: torch.Tensor):
        self.mean = mean

    @property
    def std(self) -> torch.Tensor:
        return torch.zeros_like(self.mean)

    def draw(self, normal: Normal, noise_scale: float = 1.0) -> torch.Tensor:
        """The mean; `normal` is not called."""
        return self.mean

    def kl(self) -> NoReturn:
        """There is none to compute: raises a ValueError that says why."""
        raise ValueError(
            "A deterministic posterior has no finite KL divergence from N(0, 1). Penalize the latents' "
            "moments instead, for instance by `star_hf.regularizers.moment_loss`."
        )


def normal_numbers(like: torch.Tensor, generator: Generators = None) -> Normal:
    """`normal(*shape)` that gives standard normal numbers `(batch, *shape)` in the dtype of `like`.

    Args:
        like: `(batch, …)`, its batch size, device and dtype count.
        generator: one for all or a list with one for each member of the batch.

    Raises:
        ValueError: if there are too few generators.
    """
    batch = like.shape[0]
    if isinstance(generator, list) and len(generator) < batch and len(generator) != 1:
        raise ValueError(f"`generator` must be one or a list of {batch}, not a list of {len(generator)}.")

    def normal(*shape: int) -> torch.Tensor:
        return randn_tensor((batch, *shape), generator, device=like.device, dtype=like.dtype)

    return normal
