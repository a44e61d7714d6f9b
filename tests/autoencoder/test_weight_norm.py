"""Channels-last convolutions against PyTorch's own, and the life of a folded weight."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from star_hf.autoencoder.layers import Conv1d, ConvTranspose1d, from_channels_last, to_channels_last


def randomized_gain(layer):
    with torch.no_grad():
        layer.weight_g.mul_(torch.rand_like(layer.weight_g) + 0.5)
    return layer


def reference(layer, module: nn.Module) -> nn.Module:
    """`module` with PyTorch's weight norm and the parameters of `layer`."""
    module = weight_norm(module.to(layer.weight_v.dtype))
    state = {
        "parametrizations.weight.original0": layer.weight_g,
        "parametrizations.weight.original1": layer.weight_v,
        "bias": layer.bias,
    }
    module.load_state_dict({name: value for name, value in state.items() if value is not None})
    return module


def run(layer, x: torch.Tensor) -> torch.Tensor:
    return from_channels_last(layer(to_channels_last(x)))


def test_channels_last_and_back_is_the_identity():
    x = torch.randn(2, 3, 5)
    y = to_channels_last(x)
    assert y.shape == (2, 3, 1, 5) and y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(from_channels_last(y), x)
    assert from_channels_last(y).is_contiguous()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"), [(7, 1, 9, 3), (1, 1, 0, 1), (8, 4, 2, 1)]
)
def test_convolution_is_pytorchs(kernel, stride, padding, dilation, bias):
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "bias": bias}
    layer = randomized_gain(Conv1d(3, 5, kernel, **arguments)).double()
    expected = reference(layer, nn.Conv1d(3, 5, kernel, **arguments))
    x = torch.randn(2, 3, 24, dtype=torch.float64)
    torch.testing.assert_close(run(layer, x), expected(x))


@pytest.mark.parametrize("stride", [2, 3, 8])
def test_transposed_convolution_is_pytorchs_and_multiplies_the_length(stride):
    layer = randomized_gain(ConvTranspose1d(3, 5, stride)).double()
    padding = (stride + 1) // 2
    module = nn.ConvTranspose1d(3, 5, 2 * stride, stride=stride, padding=padding, output_padding=stride % 2)
    x = torch.randn(2, 3, 9, dtype=torch.float64)
    y = run(layer, x)
    assert y.shape[-1] == 9 * stride
    torch.testing.assert_close(y, reference(layer, module)(x))


@pytest.fixture(params=[Conv1d, ConvTranspose1d])
def layer(request):
    arguments = {"kernel_size": 7, "padding": 3} if request.param is Conv1d else {"stride": 2}
    return randomized_gain(request.param(3, 4, **arguments)).eval()


@pytest.fixture
def x():
    return to_channels_last(torch.randn(1, 3, 10))


def change(layer):
    with torch.no_grad():
        layer.weight_g.mul_(2)
        layer.weight_v.add_(0.1)


def test_a_folded_weight_is_the_normalized_one_and_is_used(layer, x):
    unfolded = layer(x)
    layer.fold()
    assert torch.equal(layer(x), unfolded)
    change(layer)
    assert torch.equal(layer(x), unfolded)
    layer.fold()
    assert not torch.equal(layer(x), unfolded)


@pytest.mark.parametrize("event", ["unfold", "train", "load_state_dict"])
def test_a_folded_weight_is_dropped(layer, x, event):
    changed = copy.deepcopy(layer)
    change(changed)
    layer.fold()
    if event == "load_state_dict":
        layer.load_state_dict(changed.state_dict())
    else:
        change(layer)
        getattr(layer, event)()
    assert torch.equal(layer(x), changed(x))


def test_evaluation_mode_keeps_a_folded_weight(layer):
    layer.fold()
    folded = layer.weight()
    assert layer.eval().weight() is folded


def test_a_folded_weight_follows_its_parameters_to_another_type(layer, x):
    expected = copy.deepcopy(layer).double()(x.double())
    layer.fold()
    torch.testing.assert_close(layer.double()(x.double()), expected, rtol=1e-14, atol=1e-14)
    assert not layer.weight().requires_grad


def test_a_folded_weight_is_copied_with_its_layer_and_stays_out_of_the_state(layer, x):
    names = set(layer.state_dict())
    layer.fold()
    assert set(layer.state_dict()) == names
    twin = copy.deepcopy(layer)
    expected = layer(x)
    change(layer)
    layer.fold()
    assert torch.equal(twin(x), expected)
