"""The Snake activation, its intermediates kept in the cache of a CPU or the registers of a GPU."""

import functools
from types import ModuleType

import torch
from diffusers.utils import logging
from torch import nn
from torch.autograd.function import once_differentiable

logger = logging.get_logger(__name__)

# Rows are processed in blocks of this many elements: two float32 buffers fit a core's second-level cache.
_BLOCK_ELEMENTS = 1 << 17


@functools.cache
def _kernels(device: torch.device) -> ModuleType | None:
    """`snake_kernels` where Triton is installed, as it is with PyTorch for CUDA on Linux, and works."""
    try:
        from . import snake_kernels

        one = torch.ones(1, device=device)
        snake_kernels.forward(one.view(1, 1), one, one, one.view(1, 1).clone())
    except ImportError:
        return None
    except Exception as error:  # whatever a compiler that is missing or too old may raise
        logger.warning(f"Triton cannot be used on {device}, Snake runs unfused: {error}")
        return None
    return snake_kernels


def _kernels_for(x: torch.Tensor) -> ModuleType | None:
    return _kernels(x.device) if x.is_cuda and x.dtype != torch.float64 else None


def _row_blocks(*tensors: torch.Tensor):
    rows, channels = tensors[0].shape
    step = max(1, _BLOCK_ELEMENTS // channels)
    for start in range(0, rows, step):
        yield tuple(tensor[start : start + step] for tensor in tensors)


def _as_rows(x: torch.Tensor) -> torch.Tensor:
    """(batch, channels, 1, time) in channels-last memory → a (batch · time, channels) view of it."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _snake_rows(x: torch.Tensor, frequency: torch.Tensor, root_gain: torch.Tensor, out: torch.Tensor) -> None:
    sine = torch.mul(x, frequency).sin_().mul_(root_gain)
    torch.addcmul(x, sine, sine, out=out)


class _Snake(torch.autograd.Function):
    """x + sin²(ax)/b that keeps only x for the backward pass.

    With g the incoming gradient: ∂x = g (1 + (a/b) sin 2ax), ∂a = Σ g x sin(2ax)/b, ∂(1/b) = Σ g sin²(ax).
    """

    @staticmethod
    def forward(ctx, x, frequency, gain):
        ctx.save_for_backward(x, frequency, gain)
        return _snake_forward(x, frequency, gain)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, frequency, gain = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = torch.empty_like(x, memory_format=torch.channels_last)
        if (kernels := _kernels_for(x)) is not None:
            rows = (_as_rows(grad), _as_rows(x))
            grad_frequency, grad_gain = kernels.backward(*rows, frequency, gain, _as_rows(grad_x))
            return grad_x, grad_frequency.to(frequency.dtype), grad_gain.to(gain.dtype)
        sum_dtype = torch.promote_types(x.dtype, torch.float32)
        grad_frequency = torch.zeros_like(frequency, dtype=sum_dtype)
        grad_gain = torch.zeros_like(gain, dtype=sum_dtype)
        a, slope = frequency.to(x.dtype), (frequency * gain).to(x.dtype)
        on_cpu = x.device.type == "cpu"
        rows = (_as_rows(grad), _as_rows(x), _as_rows(grad_x))
        for g, xs, out in _row_blocks(*rows) if on_cpu else [rows]:
            angle = xs * a
            sine = angle.sin()
            # sin 2ax = 2 sin ax · cos ax; the factor 2 is applied once per channel below.
            g_double = angle.cos_().mul_(sine).mul_(g)
            torch.addcmul(g, g_double, slope, value=2.0, out=out)
            grad_frequency += torch.sum(g_double.mul_(xs), dim=0, dtype=sum_dtype)
            grad_gain += torch.sum(sine.square_().mul_(g), dim=0, dtype=sum_dtype)
        return grad_x, (2.0 * gain * grad_frequency).to(frequency.dtype), grad_gain.to(gain.dtype)


def _snake_forward(x: torch.Tensor, frequency: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x, memory_format=torch.channels_last)
    rows = (_as_rows(x), _as_rows(out))
    if (kernels := _kernels_for(x)) is not None:
        kernels.forward(rows[0], frequency, gain, rows[1])
        return out
    a, root_gain = frequency.to(x.dtype), gain.sqrt().to(x.dtype)
    for xs, ys in _row_blocks(*rows) if x.device.type == "cpu" else [rows]:
        _snake_rows(xs, a, root_gain, ys)
    return out


class Snake(nn.Module):
    r"""Snake activation with learned frequencies and gains: \(x + \sin^2(e^{\alpha} x) / e^{\beta}\).

    Input and output are `(batch, channels, 1, time)`, channels-last. Parameters are named and shaped as
    diffusers' `Snake1d`. Source: Ziyin et al., "Neural Networks Fail to Learn Periodic Functions and How to
    Fix It" (2020), with the separate gain of BigVGAN.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1, channels, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frequency = self.alpha.flatten().exp()
        gain = (self.beta.flatten().exp() + 1e-9).reciprocal()
        if torch.compiler.is_compiling():
            frequency, gain = (p.to(x.dtype).view(1, -1, 1, 1) for p in (frequency, gain))
            return x + gain * torch.sin(frequency * x).square()
        x = x.contiguous(memory_format=torch.channels_last)
        if torch.is_grad_enabled() and (x.requires_grad or frequency.requires_grad or gain.requires_grad):
            return _Snake.apply(x, frequency, gain)
        return _snake_forward(x, frequency, gain)
