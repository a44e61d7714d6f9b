"""The mean absolute difference against PyTorch's, whatever the memory layout, and in pieces."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from star_hf.losses import absolute_difference
from star_hf.losses.absolute_difference import mean_absolute_difference


def pair(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator).to(dtype) for _ in range(2))


def with_gradient(function, x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.detach().requires_grad_()
    value = function(x, target)
    return value.detach(), torch.autograd.grad(3 * value, x)[0]


@pytest.mark.parametrize("block", [7, 1 << 17])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("target_layout", [torch.contiguous_format, torch.channels_last])
def test_value_and_gradient_are_pytorchs(block, layout, target_layout, monkeypatch):
    monkeypatch.setattr(absolute_difference, "_BLOCK_ELEMENTS", block)
    x, target = pair(2, 3, 5, 4)
    target[0] = x[0]  # no difference, no gradient
    x, target = x.contiguous(memory_format=layout), target.contiguous(memory_format=target_layout)
    value, gradient = with_gradient(mean_absolute_difference, x, target)
    torch.testing.assert_close((value, gradient), with_gradient(F.l1_loss, x, target))
    assert gradient.stride() == x.stride()
    assert not gradient[0].any()


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 2)])
def test_small_tensors_and_slices(shape):
    x, target = pair(*shape, 2)
    both = x[..., 1], target[..., 1]
    expected = with_gradient(F.l1_loss, *both)
    torch.testing.assert_close(with_gradient(mean_absolute_difference, *both), expected)


def test_half_precision_is_averaged_in_float32():
    x, target = pair(5000, dtype=torch.bfloat16)
    value, gradient = with_gradient(mean_absolute_difference, x, target)
    assert value.dtype == torch.float32 and gradient.dtype == torch.bfloat16
    exact = (x - target).abs().double().mean()
    assert value.item() == pytest.approx(exact.item(), rel=1e-6)


def test_no_gradient_flows_to_the_target():
    x, target = (tensor.requires_grad_() for tensor in pair(4))
    mean_absolute_difference(x, target).backward()
    assert target.grad is None and x.grad is not None


def test_it_compiles():
    x, target = pair(2, 3, 5, 4)
    compiled = torch.compile(mean_absolute_difference, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(with_gradient(compiled, x, target), with_gradient(F.l1_loss, x, target))


def test_shapes_must_be_the_same():
    with pytest.raises(ValueError, match=r"`x` is of shape \(2,\) and `target` \(1,\)"):
        mean_absolute_difference(torch.zeros(2), torch.zeros(1))
