"""Guidance: how the conditional and the unconditional velocity are combined."""

import torch


def classifier_free_guidance(
    unconditional: torch.Tensor, conditional: torch.Tensor, scale: float
) -> torch.Tensor:
    """`unconditional + scale * (conditional - unconditional)` (Ho and Salimans, arXiv 2207.12598).

    Args:
        unconditional, conditional: velocities of the same shape.
        scale: 0 is unconditional, 1 is conditional, above 1 moves on in the direction between them.

    Raises:
        ValueError: the shapes differ.
    """
    if unconditional.shape != conditional.shape:
        raise ValueError(
            "`unconditional` and `conditional` must have the same shape, got "
            f"{tuple(unconditional.shape)} and {tuple(conditional.shape)}"
        )
    return torch.lerp(unconditional, conditional, scale)
