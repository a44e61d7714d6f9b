r"""Winograd's minimal filtering over time: a convolution of 7 taps in less than half of its multiplications.

Four outputs of seven taps are ten products instead of 28, \(y = A^T [(G w) \odot (B^T x)]\) (Lavin and Gray,
"Fast Algorithms for Convolutional Neural Networks", 2016, F(4, 7)). Over channels the ten products are matrix
products, and a dilated convolution is one on every d-th step. The gradient of the weight is the same in
reverse order. The cost is rounding, in float32 about 2e-6 of the output; bf16 would lose 5%, and stays with
PyTorch's convolution.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.polynomial.polynomial import polyfromroots
from torch.nn import functional as F

TAPS = 7
OUTPUTS = 4
PRODUCTS = OUTPUTS + TAPS - 1
# Exact in binary, near 1 and far enough apart: the transforms cancel, and round, little.
_POINTS = (0.0, 0.5, -0.5, 0.75, -0.75, 1.25, -1.25, 2.0, -2.0)

# Tiles of one matrix product: what lies between the transforms, (tiles, 10, channels), stays in the cache.
_TILES = 512
# Narrower layers spend more on the transforms than they save.
_CHANNELS = 128
# Of a batch; fewer do not pay for the transform of a weight.
_STEPS = 1024


def is_faster(weight: torch.Tensor, stride: int, padding: int, dilation: int) -> bool:
    """Whether `convolve` can do this convolution, and faster than PyTorch with a transformed weight at hand.

    It needs wide layers in float32 on a CPU, and MKL, whose batches of small products make it fast.

    Args:
        weight: `(out, in, ..., taps)`.
    """
    return (
        (weight.shape[-1], stride, padding) == (TAPS, 1, TAPS // 2 * dilation)
        and min(weight.shape[:2]) >= _CHANNELS
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkl.is_available()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


def is_worth_it(x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int, dilation: int) -> bool:
    """Whether it is faster together with the transform of the weight."""
    return x.shape[0] * x.shape[-1] >= _STEPS and is_faster(weight, stride, padding, dilation)


def minimal_filter(points: Sequence[float], outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aᵀ, G and Bᵀ of the filter of `outputs` steps that interpolates at P `points` and at infinity.

    Returns:
        `(outputs, P + 1)`, `(P + 1, taps)` and `(P + 1, P + 1)`, where P is outputs + taps - 2.
    """
    taps = len(points) + 2 - outputs
    others = [np.delete(points, index) for index in range(len(points))]
    scale = [np.prod(point - rest) for point, rest in zip(points, others, strict=True)]
    of_weight = np.vander(points, taps, increasing=True) / np.expand_dims(scale, 1)
    of_input = [np.append(polyfromroots(rest), 0.0) for rest in others]
    return (
        np.append(np.vander(points, outputs, increasing=True).T, np.eye(outputs)[:, -1:], axis=1),
        np.append(of_weight, np.eye(taps)[-1:], axis=0),
        np.array([*of_input, polyfromroots(points)]),
    )


@functools.cache
def _matrices() -> list[torch.Tensor]:
    """Aᵀ (4, 10), G (10, 7) and Bᵀ (10, 10)."""
    with torch.inference_mode(False):  # they also serve where gradients are taken
        return [torch.from_numpy(matrix).float() for matrix in minimal_filter(_POINTS, OUTPUTS)]


def transform_weight(weight: torch.Tensor) -> torch.Tensor:
    """`(out, in, 1, 7)` → `(10, in, out)`, what `convolve` multiplies with."""
    _, of_weight, _ = _matrices()
    taps = weight.squeeze(2).permute(2, 1, 0)
    return torch.mm(of_weight, taps.reshape(TAPS, -1)).view(PRODUCTS, *taps.shape[1:])


def convolve(
    x: torch.Tensor, transformed: torch.Tensor, bias: torch.Tensor | None, dilation: int
) -> torch.Tensor:
    """Convolution of 7 taps that keeps the length.

    Args:
        x: `(batch, in, 1, time)` in channels-last memory, float32 on the CPU.
        transformed: `(10, in, out)` of `transform_weight`.
        bias: `(out,)`.
        dilation: d, steps between the taps.

    Returns:
        `(batch, out, 1, time)` in channels-last memory.
    """
    recover, _, of_input = _matrices()
    steps, channels = x.shape[-1], transformed.shape[-1]
    spread = _empty_tiles(x, dilation)
    length = OUTPUTS * spread[..., 0, 0].numel()
    count = spread.shape[0] * spread.shape[1]
    products = x.new_empty(PRODUCTS, count, channels)
    recovered = x.new_empty(count, OUTPUTS, channels)
    in_order = recovered.view(*spread.shape[:2], OUTPUTS, channels).permute(1, 2, 0, 3)
    out = x.new_empty(x.shape[0], steps, channels)
    for source, target in zip(as_rows(x), out, strict=True):
        for start in range(0, steps, length):
            _spread(of_input, source, start - TAPS // 2 * dilation, spread)
            torch.bmm(spread.flatten(0, 1).transpose(0, 1), transformed, out=products)
            torch.bmm(recover.expand(count, -1, -1), products.transpose(0, 1), out=recovered)
            piece = target[start : start + length]
            whole = piece if len(piece) == length else piece.new_empty(length, channels)
            torch.add(in_order, 0 if bias is None else bias, out=whole.view(in_order.shape))
            if whole is not piece:
                piece.copy_(whole[: len(piece)])
    return out.transpose(1, 2).unsqueeze(2)


def weight_gradient(x: torch.Tensor, grad: torch.Tensor, dilation: int) -> torch.Tensor:
    r"""Gradient of the weight of `convolve`, \(G^T \sum (B^T x) \odot (A y)\) over all tiles.

    Args:
        x: the input, `(batch, in, 1, time)` in channels-last memory.
        grad: y, gradient of the output, `(batch, out, 1, time)` in channels-last memory.
        dilation: d, steps between the taps.

    Returns:
        `(out, in, 1, 7)`.
    """
    recover, of_weight, of_input = _matrices()
    spread, spread_grad = _empty_tiles(x, dilation), _empty_tiles(grad, dilation)
    length = OUTPUTS * spread[..., 0, 0].numel()
    products = x.new_zeros(PRODUCTS, x.shape[1], grad.shape[1])
    for source, target in zip(as_rows(x), as_rows(grad), strict=True):
        for start in range(0, x.shape[-1], length):
            _spread(of_input, source, start - TAPS // 2 * dilation, spread)
            _spread(recover.T, target, start, spread_grad)
            products.baddbmm_(
                spread.flatten(0, 1).permute(1, 2, 0), spread_grad.flatten(0, 1).transpose(0, 1)
            )
    taps = torch.mm(of_weight.T, products.flatten(1)).view(TAPS, *products.shape[1:])
    return taps.permute(2, 1, 0).unsqueeze(2)


def as_rows(x: torch.Tensor) -> torch.Tensor:
    """`(batch, channels, 1, time)` → `(batch, time, channels)`, a view."""
    return x.squeeze(2).transpose(1, 2)


def _empty_tiles(x: torch.Tensor, dilation: int) -> torch.Tensor:
    """For one block of tiles of x: `(dilation, tiles, 10, channels)`.

    A dilation makes that many interleaved signals of one, each with its own tiles. Blocks are of equal size.
    """
    tiles = math.ceil(x.shape[-1] / (OUTPUTS * dilation))
    count = math.ceil(tiles / math.ceil(tiles * dilation / _TILES))
    return x.new_empty(dilation, count, PRODUCTS, x.shape[1])


def _spread(matrix: torch.Tensor, x: torch.Tensor, first: int, out: torch.Tensor) -> None:
    """Multiply the tiles of x `(time, channels)` from step `first` on by `matrix`, into `out`."""
    dilation, count = out.shape[:2]
    size = matrix.shape[1]
    window = rows_between(x, first, first + ((count - 1) * OUTPUTS + size) * dilation)
    for phase, part in enumerate(out):
        tiles = window[phase::dilation].unfold(0, size, OUTPUTS).transpose(1, 2)
        torch.bmm(matrix.expand(count, -1, -1), tiles, out=part)


def rows_between(x: torch.Tensor, first: int, end: int) -> torch.Tensor:
    """Rows `first` to `end` of x `(…, time, channels)`, zero beyond either end of it."""
    before, after = max(0, -first), max(0, end - x.shape[-2])
    rows = x[..., max(0, first) : end, :]
    return F.pad(rows, (0, 0, before, after)) if before or after else rows
