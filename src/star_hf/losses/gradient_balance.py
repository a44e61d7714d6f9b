"""An alignment loss that cannot dominate: its gradient is set to a share of the reconstruction's, each step.

Source: SemaVoice's rule for aligning latents with WavLM features: the weight of the alignment is chosen in
each step so that its gradient's norm at the latents is half the reconstruction's.
"""

import math
from typing import Any

import torch
from torch.autograd.function import once_differentiable


def balance_gradients(latents: torch.Tensor, fraction: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    r"""The latents twice, for the reconstruction and for the alignment, whose gradients are balanced.

    The gradient that reaches `latents` is

    \[g_r + \text{fraction} \cdot \frac{\lVert g_r \rVert}{\lVert g_a \rVert} \, g_a\]

    with g_r and g_a the gradients at the two outputs and norms over the whole tensor in float32. Both losses
    must be in one backward pass, which costs no more than without the balance. What the second output's loss
    is multiplied by, its weight included, has no effect on the latents; the alignment's own parameters do see
    it. A gradient of zero on either side adds nothing. Each process balances its own batch.

    Args:
        latents: of any shape.
        fraction: the norm of the alignment's part over that of the reconstruction's.

    Raises:
        ValueError: if `fraction` is negative or not finite.
        RuntimeError: in backward, if the alignment's gradient arrives without the reconstruction's.
    """
    _check_fraction(fraction)
    return _BalanceGradients.apply(latents, fraction)


def gradient_norm_weight(
    reconstruction_loss: torch.Tensor,
    alignment_loss: torch.Tensor,
    latents: torch.Tensor,
    fraction: float = 0.5,
) -> torch.Tensor:
    r"""The weight \(\text{fraction} \cdot \lVert g_r \rVert / \lVert g_a \rVert\) of the alignment, a scalar.

    For loops that add `weight * alignment_loss` themselves. The two gradients with respect to `latents` are
    computed here, which is one more backward pass from each loss to the latents than `balance_gradients`
    needs; the graph is kept. The weight carries no gradient, and is 0 where g_a is 0. Unlike
    `balance_gradients` it also weighs the gradient of the alignment's own parameters.

    Args:
        reconstruction_loss, alignment_loss: scalars that depend on `latents`.
        latents: a tensor with a gradient path, of any shape.

    Raises:
        ValueError: if a loss does not depend on `latents`, or `fraction` is negative or not finite.
    """
    _check_fraction(fraction)
    losses = {"reconstruction_loss": reconstruction_loss, "alignment_loss": alignment_loss}
    norms = []
    for name, loss in losses.items():
        gradient = None
        if loss.requires_grad:
            (gradient,) = torch.autograd.grad(loss, latents, retain_graph=True, allow_unused=True)
        if gradient is None:
            raise ValueError(f"`{name}` does not depend on `latents`.")
        norms.append(_norm(gradient))
    for_reconstruction, for_alignment = norms
    weight = fraction * for_reconstruction / for_alignment
    return torch.where(for_alignment > 0, weight, torch.zeros_like(weight))


class _BalanceGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, latents: torch.Tensor, fraction: float) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.fraction = fraction
        # A gradient that is missing must not look like one of zeros.
        ctx.set_materialize_grads(False)
        return latents.view_as(latents), latents.view_as(latents)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, for_reconstruction: torch.Tensor | None, for_alignment: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, None]:
        if for_alignment is None:
            return for_reconstruction, None
        if for_reconstruction is None:
            raise RuntimeError(
                "The alignment's gradient reached `balance_gradients` without the reconstruction's, of which "
                "it is to be a share: call backward on the sum of both losses."
            )
        norm = _norm(for_alignment)
        # Divided first: the ratio of the norms could overflow, and 0/0 becomes 0.
        direction = for_alignment.to(norm.dtype) / norm.clamp(min=torch.finfo(norm.dtype).tiny)
        share = ctx.fraction * _norm(for_reconstruction) * direction
        return (for_reconstruction + share).to(for_reconstruction.dtype), None


def _norm(gradient: torch.Tensor) -> torch.Tensor:
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    return torch.linalg.vector_norm(gradient, dtype=dtype)


def _check_fraction(fraction: float) -> None:
    if not (math.isfinite(fraction) and fraction >= 0):
        raise ValueError(f"`fraction` must be finite and at least 0, not {fraction}.")
