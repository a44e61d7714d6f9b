"""The Snake activation as one kernel each way, for GPUs. Importing this needs Triton.

Rows are `(rows, channels)`, contiguous; frequencies and gains `(channels,)` in float32, in which all is
computed.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl

_FORWARD_ELEMENTS = 1024
# The backward kernel sums over rows: a program takes this many, a few at a time.
_ROWS_PER_PROGRAM, _ROWS, _CHANNELS = 256, 16, 64


@triton.jit
def _forward_kernel(x_ptr, frequency_ptr, gain_ptr, out_ptr, elements, channels, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < elements
    channel = index % channels
    x = tl.load(x_ptr + index, mask=inside, other=0.0).to(tl.float32)
    sine = tl.sin(tl.load(frequency_ptr + channel) * x)
    y = x + tl.load(gain_ptr + channel) * sine * sine
    tl.store(out_ptr + index, y.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _backward_kernel(
    grad_ptr,
    x_ptr,
    frequency_ptr,
    gain_ptr,
    grad_x_ptr,
    frequency_sums_ptr,
    gain_sums_ptr,
    rows,
    channels,
    ROWS_PER_PROGRAM: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < channels
    frequency = tl.load(frequency_ptr + channel, mask=known, other=0.0)[None, :]
    gain = tl.load(gain_ptr + channel, mask=known, other=0.0)[None, :]
    frequency_sum = tl.zeros((ROWS, CHANNELS), dtype=tl.float32)
    gain_sum = tl.zeros((ROWS, CHANNELS), dtype=tl.float32)
    for start in range(0, ROWS_PER_PROGRAM, ROWS):
        row = program * ROWS_PER_PROGRAM + start + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & known[None, :]
        index = row[:, None] * channels + channel[None, :]
        grad = tl.load(grad_ptr + index, mask=inside, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + index, mask=inside, other=0.0).to(tl.float32)
        sine, cosine = tl.sin(frequency * x), tl.cos(frequency * x)
        double = 2.0 * sine * cosine
        grad_x = grad * (1.0 + frequency * gain * double)
        tl.store(grad_x_ptr + index, grad_x.to(grad_x_ptr.dtype.element_ty), mask=inside)
        frequency_sum += grad * x * double
        gain_sum += grad * sine * sine
    sums = program * channels + channel
    tl.store(frequency_sums_ptr + sums, tl.sum(frequency_sum, axis=0), mask=known)
    tl.store(gain_sums_ptr + sums, tl.sum(gain_sum, axis=0), mask=known)


def forward(x: torch.Tensor, frequency: torch.Tensor, gain: torch.Tensor, out: torch.Tensor) -> None:
    """`out` = x + gain · sin²(frequency · x)."""
    grid = (triton.cdiv(x.numel(), _FORWARD_ELEMENTS),)
    with _device_of(x):
        _forward_kernel[grid](
            x, frequency.float(), gain.float(), out, x.numel(), x.shape[1], BLOCK=_FORWARD_ELEMENTS
        )


def backward(
    grad: torch.Tensor, x: torch.Tensor, frequency: torch.Tensor, gain: torch.Tensor, grad_x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Writes `grad_x`; returns the gradients of frequency and gain in float32, in an order of its own."""
    rows, channels = x.shape
    programs = triton.cdiv(rows, _ROWS_PER_PROGRAM)
    sums = torch.empty(2, programs, channels, dtype=torch.float32, device=x.device)
    with _device_of(x):
        _backward_kernel[programs, triton.cdiv(channels, _CHANNELS)](
            grad,
            x,
            frequency.float(),
            gain.float(),
            grad_x,
            sums[0],
            sums[1],
            rows,
            channels,
            ROWS_PER_PROGRAM=_ROWS_PER_PROGRAM,
            ROWS=_ROWS,
            CHANNELS=_CHANNELS,
        )
    frequency_sum, gain_sum = sums.sum(dim=1)
    return gain.float() * frequency_sum, gain_sum


def _device_of(x: torch.Tensor) -> AbstractContextManager:
    """Triton starts kernels on the current device. On the CPU its interpreter needs none."""
    return torch.cuda.device_of(x) if x.is_cuda else nullcontext()
