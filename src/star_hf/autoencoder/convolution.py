"""Convolutions over time, in float32 on a CPU faster than oneDNN's.

The gradient of a weight, slow channels-last, is a matrix product; wide layers of seven taps and the gradients
of their inputs are computed by minimal filtering (`winograd.py`).

Features are `(batch, channels, 1, time)` in channels-last memory, weights `(out, in, 1, kernel)`, of
transposed convolutions `(in, out, 1, kernel)`. Where automatic differentiation does as well or is needed
(other devices and dtypes, autocast, `torch.compile`), these functions are PyTorch's own.
"""

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from . import winograd

# Time steps of one matrix product: its operands of up to 512 channels stay in the last cache.
_CHUNK_STEPS = 1 << 13


def convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: int, padding: int, dilation: int
) -> torch.Tensor:
    """`conv2d` over the last dimension, `(batch, in, 1, time)` → `(batch, out, 1, time')`."""
    arguments = (1, stride), (0, padding), (1, dilation)
    if _has_slow_gradient(x, weight):
        return _Convolution.apply(x, weight, bias, *arguments, False, (0, 0))
    is_constant = x.dtype == weight.dtype and not torch.is_grad_enabled()
    if is_constant and winograd.is_worth_it(x, weight, stride, padding, dilation):
        return winograd.convolve(x, winograd.transform_weight(weight), bias, dilation)
    return F.conv2d(x, weight, bias, *arguments)


def convolve_transposed(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: int, padding: int, extra: int
) -> torch.Tensor:
    """`conv_transpose2d` over the last dimension, its output `extra` steps longer at the end."""
    arguments = (1, stride), (0, padding)
    if _has_slow_gradient(x, weight):
        return _Convolution.apply(x, weight, bias, *arguments, (1, 1), True, (0, extra))
    return F.conv_transpose2d(x, weight, bias, *arguments, output_padding=(0, extra))


def _has_slow_gradient(x: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        weight.requires_grad
        and torch.is_grad_enabled()
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding, dilation, transposed, output_padding):
        ctx.save_for_backward(x, weight)
        ctx.arguments = stride, padding, dilation, transposed, output_padding
        ctx.is_filtered = not transposed and winograd.is_worth_it(
            x, weight, stride[1], padding[1], dilation[1]
        )
        if ctx.is_filtered:
            return winograd.convolve(x, winograd.transform_weight(weight), bias, dilation[1])
        return torch.convolution(x, weight, bias, *ctx.arguments, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0] and ctx.is_filtered:
            # the same filter backwards in time, from the outputs' channels to the inputs'
            transformed = winograd.transform_weight(weight.transpose(0, 1).flip(-1))
            grad_x = winograd.convolve(grad, transformed, None, ctx.arguments[2][1])
        elif ctx.needs_input_grad[0]:
            mask = (True, False, False)
            grad_x, _, _ = torch.ops.aten.convolution_backward(grad, x, weight, None, *ctx.arguments, 1, mask)
        if ctx.needs_input_grad[1]:
            (_, stride), (_, padding), (_, dilation), transposed, _ = ctx.arguments
            source, target = (grad, x) if transposed else (x, grad)
            if ctx.is_filtered:
                grad_weight = winograd.weight_gradient(source, target, dilation)
            else:
                grad_weight = weight_gradient(source, target, weight.shape[-1], stride, padding, dilation)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum(dim=(0, 2, 3))
        return grad_x, grad_weight, grad_bias, None, None, None, None, None


def weight_gradient(
    source: torch.Tensor, target: torch.Tensor, kernel_size: int, stride: int, padding: int, dilation: int
) -> torch.Tensor:
    r"""Correlation \(w_{oik} = \sum_{bt} y_{bot}\, x_{bi,\,st + dk - p}\) of target y and source x.

    It is the gradient of a convolution by its weight, where x is its input and y the gradient of its output,
    and of a transposed one, where the two are exchanged.

    Args:
        source, target: `(batch, channels, 1, time)`, channels-last; time steps outside of `source` are zero.
        kernel_size, stride, padding, dilation: K, s, p and d in time steps.

    Returns:
        `(target channels, source channels, 1, kernel_size)`.
    """
    x, y = (winograd.as_rows(tensor) for tensor in (source, target))  # (B, T, C), C contiguous
    steps, channels = y.shape[1:]
    taps = kernel_size, stride, padding, dilation
    if steps < channels:
        # The windows of a few examples are smaller than the weight: products write it in its own order.
        weight = x.new_empty(channels, x.shape[-1] * kernel_size)
        groups = zip(*(tensor.split(channels // steps) for tensor in (x, y)), strict=True)
        for index, (some_x, some_y) in enumerate(groups):
            windows = _windows(some_x, 0, steps, *taps).permute(0, 2, 3, 1).reshape(-1, weight.shape[1])
            weight.addmm_(some_y.reshape(-1, channels).t(), windows, beta=min(index, 1))
        return weight.view(channels, x.shape[-1], 1, kernel_size)
    weight = x.new_zeros(kernel_size, channels, x.shape[-1])
    for one_x, one_y in zip(x.split(1), y, strict=True):
        for start in range(0, steps, _CHUNK_STEPS):
            chunk = one_y[start : start + _CHUNK_STEPS]
            windows = _windows(one_x, start, len(chunk), *taps).squeeze(0)
            weight.baddbmm_(chunk.t().expand(kernel_size, -1, -1), windows)
    return weight.permute(1, 2, 0).unsqueeze(2)


def _windows(
    x: torch.Tensor, start: int, steps: int, kernel_size: int, stride: int, padding: int, dilation: int
) -> torch.Tensor:
    """What each tap sees of x `(batch, time, channels)` in `steps` steps: `(batch, kernel, steps, channels)`.

    A view, of a copy only where the windows reach beyond either end.
    """
    first = start * stride - padding
    end = first + (steps - 1) * stride + (kernel_size - 1) * dilation + 1
    x = winograd.rows_between(x, first, end)
    batch, _, channels = x.shape
    example, row, channel = x.stride()
    return x.as_strided(
        (batch, kernel_size, steps, channels),
        (example, dilation * row, stride * row, channel),
        x.storage_offset(),
    )
