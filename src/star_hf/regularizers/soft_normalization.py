"""Soft normalization: latents without a posterior, held near N(0, 1) by their own moments.

Source: SAME, the autoencoder of Stable Audio 3 (arXiv 2605.17991). Tensors have the names and shapes of
diffusers' `AutoencoderSAME`, so that its bottleneck's state dict loads.
"""

import math

import torch
from torch import nn

from .running_std import DECAY, FLOOR, check_decay, update_running_std

VARIANCE_FLOOR = 1e-4


class SoftNormalization(nn.Module):
    """z = (x · scale + bias) / running_std, with a learned scale and bias for each channel.

    The running standard deviation is one number for all channels, σ ← max(0.999 σ + 0.001 std(x · scale +
    bias), 1e-4). It follows the activations in training mode while gradients flow into them: neither
    evaluation, nor a pass without gradients, nor a frozen encoder changes it.

    Args:
        channels: number of latent channels.
        decay: of the running standard deviation.
        floor: least value of the running standard deviation.

    Raises:
        ValueError: if an argument is outside its range, named in the message.
    """

    def __init__(self, channels: int, decay: float = DECAY, floor: float = FLOOR):
        super().__init__()
        if channels < 1:
            raise ValueError(f"`channels` must be at least 1, not {channels}.")
        if not 0 < floor < math.inf:
            raise ValueError(f"`floor` must be positive and finite, not {floor}.")
        check_decay(decay)
        self.decay, self.floor = decay, floor
        self.scale = nn.Parameter(torch.ones(1, channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1))
        self.running_std: torch.Tensor
        self.register_buffer("running_std", torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encoder outputs `(batch, channels, frames)` → latents of the same shape."""
        x = x * self.scale + self.bias
        if self.training and x.requires_grad:
            update_running_std(self.running_std, x.detach(), self.decay, self.floor)
        # A copy, since a later update must not change what the backward pass divides by.
        return x / self.running_std.clone()

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        """Latents → what the decoder reads, z · running_std; scale and bias are not undone."""
        return z * self.running_std.clone()


def moment_loss(latents: torch.Tensor, channel_weight: float = 0.4) -> torch.Tensor:
    """Distance of the latents' moments from 0 and 1, a scalar.

    L = mean(μ² + v − ln v − 1), with mean μ and variance v over time of each clip and channel, plus
    `channel_weight` times the same with μ and v over the channels of each clip and frame. v is the mean
    squared deviation, at least 1e-4. Each term is twice the KL divergence of N(μ, v) from N(0, 1).

    Args:
        latents: of any autoencoder, `(batch, channels, frames)`.
        channel_weight: of the moments over channels; 0 for none.

    Raises:
        ValueError: if `latents` has another number of dimensions or `channel_weight` is negative.
    """
    if latents.ndim != 3:
        raise ValueError(f"`latents` must have shape (batch, channels, frames), not {tuple(latents.shape)}.")
    if not 0 <= channel_weight < math.inf:
        raise ValueError(f"`channel_weight` must be at least 0 and finite, not {channel_weight}.")
    latents = latents.to(torch.promote_types(latents.dtype, torch.float32))
    loss = _moment_penalty(latents, dim=2)
    return loss + channel_weight * _moment_penalty(latents, dim=1) if channel_weight else loss


def _moment_penalty(latents: torch.Tensor, dim: int) -> torch.Tensor:
    variance, mean = torch.var_mean(latents, dim=dim, correction=0)
    variance = variance.clamp(min=VARIANCE_FLOOR)
    return (mean.square() + variance - variance.log() - 1).mean()
