"""The mean absolute difference of large feature maps, without a difference as large as they are."""

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Blocks of this many elements stay in a core's second-level cache.
_BLOCK_ELEMENTS = 1 << 17


def mean_absolute_difference(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean of |x - target| over all elements; no gradient flows to `target`.

    PyTorch's `l1_loss` writes the difference, its absolute value, its sign and the gradient to memory; on a
    CPU the pages for these cost more than the arithmetic. There this writes the gradient alone.

    Args:
        x, target: tensors of the same shape. The result is float32 at least on a CPU.

    Raises:
        ValueError: if the shapes differ.
    """
    if x.shape != target.shape:
        raise ValueError(f"`x` is of shape {tuple(x.shape)} and `target` {tuple(target.shape)}.")
    target = target.detach()
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.l1_loss(x, target)
    # as x lies in memory: then the gradient does, too
    order = sorted(range(x.ndim), key=x.stride, reverse=True)
    return _MeanAbsoluteDifference.apply(*(tensor.permute(order).reshape(-1) for tensor in (x, target)))


class _MeanAbsoluteDifference(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(x, target)
        dtype = torch.promote_types(x.dtype, torch.float32)
        sums = [torch.sub(a, b).abs_().sum(dtype=dtype) for a, b in _blocks(x, target)]
        return torch.stack(sums).sum() / x.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, target = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        for a, b, out in _blocks(x, target, grad_x):
            torch.sub(a, b, out=out).sign_().mul_(grad / x.numel())
        return grad_x, None


def _blocks(*tensors: torch.Tensor):
    return zip(*(tensor.split(_BLOCK_ELEMENTS) for tensor in tensors), strict=True)
