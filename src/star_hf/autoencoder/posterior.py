"""The diagonal Gaussian posterior of the autoencoders."""

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch.nn import functional as F


class DiagonalGaussianPosterior:
    """q(z|x) = N(mean, std²) with std = softplus(scale) + 1e-4, as in Stable Audio Open's autoencoder.

    Args:
        parameters: `(batch, 2 · latent_channels, frames)`, means in the first half, scales in the second.

    Attributes:
        mean, scale, std, var, logvar: `(batch, latent_channels, frames)`.
    """

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

    def sample(self, generator: torch.Generator | list[torch.Generator] | None = None) -> torch.Tensor:
        """Draw `mean + std · ε`, `(batch, latent_channels, frames)`.

        Args:
            generator: of the noise ε, one for all or a list with one for each member of the batch.

        Raises:
            ValueError: if there are too few generators.
        """
        batch = self.mean.shape[0]
        if isinstance(generator, list) and len(generator) < batch and len(generator) != 1:
            raise ValueError(f"`generator` must be one or a list of {batch}, not a list of {len(generator)}.")
        noise = randn_tensor(self.mean.shape, generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + self.std * noise

    def mode(self) -> torch.Tensor:
        """The mean, which is also the most probable latent."""
        return self.mean

    def kl(self) -> torch.Tensor:
        """Exact KL(q ‖ N(0, 1)) = ½(μ² + σ² − ln σ² − 1) in nats, `(batch, latent_channels, frames)`.

        diffusers' and stable-audio-tools' Oobleck posteriors leave the ½ out and sum over channels.
        """
        return 0.5 * (self.mean.square() + self.var - self.logvar - 1)
