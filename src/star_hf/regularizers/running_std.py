"""The running standard deviation of latents: one number, the same on all processes of a training."""

import torch
from torch import distributed

DECAY = 0.999
FLOOR = 1e-4


@torch.no_grad()
def update_running_std(
    running_std: torch.Tensor, values: torch.Tensor, decay: float = DECAY, floor: float = FLOOR
) -> None:
    """running_std ← max(decay · running_std + (1 − decay) · std(values), floor), in place.

    The standard deviation is that of all values about their common mean, in float32. Where processes train
    together it is that of all processes' values, so every one of them has to make this call.

    Args:
        running_std: one number, `(1,)`.
        values: of any shape.
    """
    values = values.float()
    variance, mean = torch.var_mean(values, correction=0)
    variance = variance_over_processes(variance, mean, values.numel())
    updated = torch.lerp(variance.sqrt(), running_std.float(), decay)
    running_std.copy_(updated.clamp(min=floor))


@torch.no_grad()
def variance_over_processes(variance: torch.Tensor, mean: torch.Tensor, count: int) -> torch.Tensor:
    """The variance of all processes' values from that of each one's; every process has to make this call.

    Args:
        variance, mean: of this process's `count` values, of any shape, the same on every process.
    """
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return variance
    moments = count * torch.stack([torch.ones_like(mean), mean, variance + mean.square()])
    distributed.all_reduce(moments)
    mean, square = moments[1:] / moments[0]
    return (square - mean.square()).clamp(min=0)


def check_decay(decay: float) -> None:
    if not 0 <= decay < 1:
        raise ValueError(f"`decay` must be at least 0 and less than 1, not {decay}.")
