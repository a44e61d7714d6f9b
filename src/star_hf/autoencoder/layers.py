"""Weight-normalized 1-D convolutions that run channels-last.

Audio features are `(batch, channels, 1, time)` tensors in `torch.channels_last` memory: a 1-D convolution
written as a 2-D one with a height of 1 reaches the matrix-product rate of the processor, where `conv1d` stays
far below it.
"""

import math

import torch
from torch import nn

from . import winograd
from .convolution import convolve, convolve_transposed


def to_channels_last(x: torch.Tensor) -> torch.Tensor:
    """(batch, channels, time) → (batch, channels, 1, time) in channels-last memory."""
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def from_channels_last(x: torch.Tensor) -> torch.Tensor:
    """(batch, channels, 1, time) → contiguous (batch, channels, time)."""
    return x.squeeze(2).contiguous()


class _WeightNormConvolution(nn.Module):
    """Shared part of the convolutions: `weight = weight_g · weight_v / ‖weight_v‖`, PyTorch's `weight_norm`.

    Parameter names and shapes are those of diffusers' Oobleck layers, so that state dicts go both ways.
    """

    def __init__(self, weight_shape: tuple[int, int, int], fan_in: int, bias_size: int | None):
        super().__init__()
        self.weight_v = nn.Parameter(torch.empty(weight_shape))
        self.weight_g = nn.Parameter(torch.empty(weight_shape[0], 1, 1))
        self.bias = None if bias_size is None else nn.Parameter(torch.empty(bias_size))
        self._fan_in = fan_in
        self.unfold()
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        if self.weight_v.is_meta:  # a checkpoint is about to be loaded
            return
        # Unit gain and no bias: with PyTorch's default a deep decoder starts as a constant that ignores its
        # latents.
        self.weight_v.normal_(0, 1 / math.sqrt(self._fan_in))
        self.weight_g.copy_(torch.linalg.vector_norm(self.weight_v, dim=(1, 2), keepdim=True))
        if self.bias is not None:
            self.bias.zero_()

    @torch.no_grad()
    def scale_(self, factor: float) -> None:
        """Multiply the normalized weight by `factor`, at initialization."""
        self.unfold()
        if not self.weight_g.is_meta:
            self.weight_g.mul_(factor)

    def fold(self) -> None:
        """Compute the normalized weight once; dropped again by `unfold`, `train()` and `load_state_dict`."""
        with torch.no_grad():
            self._folded = self._normalized_weight()

    def unfold(self) -> None:
        self._folded: torch.Tensor | None = None

    def is_folded(self) -> bool:
        return self._folded is not None

    def train(self, mode: bool = True):
        if mode:
            self.unfold()
        return super().train(mode)

    def _load_from_state_dict(self, *args, **kwargs):
        self.unfold()
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, fn, recurse=True):
        # A folded weight follows its parameters to another device or dtype by being computed there.
        folded = self.is_folded()
        self.unfold()
        super()._apply(fn, recurse)
        if folded:
            self.fold()
        return self

    def _normalized_weight(self) -> torch.Tensor:
        weight = torch._weight_norm(self.weight_v, self.weight_g, 0)
        return weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)

    def weight(self) -> torch.Tensor:
        return self._normalized_weight() if self._folded is None else self._folded


class Conv1d(_WeightNormConvolution):
    """Weight-normalized convolution over time, `(batch, in, 1, time)` → `(batch, out, 1, time')`."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, bias=True):
        super().__init__(
            (out_channels, in_channels, kernel_size),
            in_channels * kernel_size,
            out_channels if bias else None,
        )
        self.stride, self.padding, self.dilation = stride, padding, dilation

    @property
    def _steps(self) -> tuple[int, int, int]:
        return self.stride, self.padding, self.dilation

    def fold(self) -> None:
        super().fold()
        if winograd.is_faster(self.weight_v, *self._steps):
            self._transformed, self._folded = winograd.transform_weight(self._folded), None

    def unfold(self) -> None:
        super().unfold()
        self._transformed: torch.Tensor | None = None

    def is_folded(self) -> bool:
        return super().is_folded() or self._transformed is not None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._transformed is not None and self._can_be_filtered(x):
            return winograd.convolve(x, self._transformed, self.bias, self.dilation)
        return convolve(x, self.weight(), self.bias, *self._steps)

    def _can_be_filtered(self, x: torch.Tensor) -> bool:
        is_constant = not torch.is_grad_enabled()
        return is_constant and x.dtype == torch.float32 and winograd.is_faster(self.weight_v, *self._steps)


class ConvTranspose1d(_WeightNormConvolution):
    """Weight-normalized transposed convolution, `(batch, in, 1, time)` → `(batch, out, 1, time · stride)`."""

    def __init__(self, in_channels, out_channels, stride):
        kernel_size = 2 * stride
        # Two input steps reach each output step.
        super().__init__((in_channels, out_channels, kernel_size), 2 * in_channels, out_channels)
        self.stride, self.padding = stride, math.ceil(stride / 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # An odd stride would come out one sample short of time · stride.
        extra = self.stride % 2
        return convolve_transposed(x, self.weight(), self.bias, self.stride, self.padding, extra)
