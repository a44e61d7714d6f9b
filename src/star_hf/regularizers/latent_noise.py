"""Noise on the latents in training, in units of their own running standard deviation.

Source: SAME, the autoencoder of Stable Audio 3 (arXiv 2605.17991), whose decoder is trained with a scale of
5e-2.
"""

import math
from collections.abc import Callable

import torch
from torch import nn

from .running_std import DECAY, check_decay, update_running_std


class LatentNoise(nn.Module):
    """z + scale · running_std · ε with ε ~ N(0, I) in training mode; the identity in evaluation mode.

    The decoder learns to forgive errors of that size, such as a generator makes. In proportion to the
    latents' spread, the noise cannot be escaped by larger latents. The running standard deviation is one
    number, σ ← max(0.999 σ + 0.001 std(z), 1e-4) from 1, for every call in training mode with gradients
    enabled.

    Args:
        scale: of the noise, as a share of the latents' standard deviation.
        decay: of the running standard deviation.

    Raises:
        ValueError: if an argument is outside its range, named in the message.
    """

    def __init__(self, scale: float = 5e-2, decay: float = DECAY):
        super().__init__()
        if not 0 <= scale < math.inf:
            raise ValueError(f"`scale` must be at least 0 and finite, not {scale}.")
        check_decay(decay)
        self.scale, self.decay = scale, decay
        self.running_std: torch.Tensor
        self.register_buffer("running_std", torch.ones(1))

    def forward(self, latents: torch.Tensor, normal: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Latents `(batch, channels, frames)` with noise.

        Args:
            normal: `normal(*shape)` gives standard normal numbers `(batch, *shape)`; not called in evaluation
                mode.
        """
        if not self.training:
            return latents
        if torch.is_grad_enabled():
            update_running_std(self.running_std, latents.detach(), self.decay)
        return latents + self.scale * self.running_std * normal(*latents.shape[1:])
