"""Convolutions with a weight gradient of their own against PyTorch's, and where they are used."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from star_hf.autoencoder import convolution
from star_hf.autoencoder.layers import Conv1d, ConvTranspose1d, from_channels_last, to_channels_last

# kernel size, stride, padding, dilation: all of the model's, and a stride that does not divide the length
CONVOLUTIONS = [
    (7, 1, 3, 1),
    (7, 1, 9, 3),
    (7, 1, 27, 9),
    (1, 1, 0, 1),
    (3, 1, 1, 1),
    (4, 2, 1, 1),
    (8, 4, 2, 1),
    (16, 8, 4, 1),
    (6, 3, 2, 1),
    (10, 5, 3, 1),
]
STRIDES = [2, 3, 4, 5, 8]
# More time steps than channels, and fewer; then weight gradients are computed in another way.
CHANNELS = [(3, 5), (40, 60)]
LENGTH = 48


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(function, tensors: list[torch.Tensor | None], dtype: torch.dtype) -> list[torch.Tensor]:
    """The output of `function`, and gradients by `tensors` of a random sum of it."""
    leaves = [tensor if tensor is None else tensor.to(dtype).requires_grad_() for tensor in tensors]
    output = function(*leaves)
    kept = [leaf for leaf in leaves if leaf is not None]
    return [
        output.detach(),
        *torch.autograd.grad(output, kept, random(*output.shape, seed=9).to(output.dtype)),
    ]


def compare(ours, pytorchs, tensors: list[torch.Tensor | None], dtype: torch.dtype) -> None:
    """Both in `dtype` against PyTorch in float64: ours rounds no worse than a few times PyTorch's own."""
    exact = gradients(pytorchs, tensors, torch.float64)
    rounded = gradients(pytorchs, tensors, dtype)
    for found, theirs, expected in zip(gradients(ours, tensors, dtype), rounded, exact, strict=True):
        assert found.dtype == dtype and found.shape == expected.shape
        scale = torch.linalg.vector_norm(expected)
        error, their_error = (torch.linalg.vector_norm(x - expected) / scale for x in (found, theirs))
        assert error <= max(4 * their_error, 4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), CONVOLUTIONS)
def test_convolution_is_pytorchs(channels, kernel, stride, padding, dilation, dtype):
    def ours(x, weight, bias):
        y = convolution.convolve(to_channels_last(x), weight.unsqueeze(2), bias, stride, padding, dilation)
        return from_channels_last(y)

    def pytorchs(x, weight, bias):
        return F.conv1d(x, weight, bias, stride, padding, dilation)

    narrow, wide = channels
    for bias in (random(wide, seed=2), None):
        tensors = [random(3, narrow, LENGTH), random(wide, narrow, kernel, seed=1), bias]
        compare(ours, pytorchs, tensors, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("stride", STRIDES)
def test_transposed_convolution_is_pytorchs(channels, stride, dtype):
    padding, extra = (stride + 1) // 2, stride % 2

    def ours(x, weight, bias):
        y = convolution.convolve_transposed(
            to_channels_last(x), weight.unsqueeze(2), bias, stride, padding, extra
        )
        return from_channels_last(y)

    def pytorchs(x, weight, bias):
        return F.conv_transpose1d(x, weight, bias, stride, padding, extra)

    narrow, wide = channels
    weight = random(wide, narrow, 2 * stride, seed=1)
    for bias in (random(narrow, seed=2), None):
        compare(ours, pytorchs, [random(3, wide, LENGTH), weight, bias], dtype)


@pytest.mark.parametrize("steps", [1, 7, 16])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), CONVOLUTIONS)
def test_chunks_of_time_add_up(steps, kernel, stride, padding, dilation, monkeypatch):
    arguments = kernel, stride, padding, dilation
    x = to_channels_last(random(2, 3, LENGTH).double())
    length = F.conv1d(x.squeeze(2), x.new_ones(5, 3, kernel), None, *arguments[1:]).shape[-1]
    y = to_channels_last(random(2, 5, length, seed=1).double())
    whole = convolution.weight_gradient(x, y, *arguments)
    monkeypatch.setattr(convolution, "_CHUNK_STEPS", steps)
    torch.testing.assert_close(convolution.weight_gradient(x, y, *arguments), whole)


def test_weight_gradient_by_hand():
    x, y = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[1.0, 10.0, 100.0]]])
    # Zeros stand on either side of x: tap 0 sees 0 1 2, tap 1 sees 1 2 3, tap 2 sees 2 3 0.
    weight = convolution.weight_gradient(to_channels_last(x), to_channels_last(y), 3, 1, 1, 1)
    assert weight.flatten().tolist() == [210.0, 321.0, 32.0]


@pytest.fixture(params=[Conv1d, ConvTranspose1d])
def layer(request):
    arguments = {"kernel_size": 7, "padding": 3} if request.param is Conv1d else {"stride": 4}
    return request.param(3, 4, **arguments)


@pytest.fixture
def x():
    return to_channels_last(random(2, 3, 24)).requires_grad_()


def is_ours(y: torch.Tensor) -> bool:
    return type(y.grad_fn) is convolution._Convolution._backward_cls


def test_it_is_used_in_training_in_float32_alone(layer, x):
    assert is_ours(layer(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not is_ours(layer(x))
    layer.fold()  # a weight without gradient
    assert not is_ours(layer(x))
    layer.unfold()
    assert not is_ours(layer.double()(x.double()))
    assert not is_ours(layer.bfloat16()(x.bfloat16()))


def test_autocast_is_pytorchs(layer, x):
    def pytorchs(x):
        arguments = {"stride": (1, layer.stride), "padding": (0, layer.padding)}
        function = F.conv2d if isinstance(layer, Conv1d) else F.conv_transpose2d
        return function(x, layer.weight(), layer.bias, **arguments)

    results = []
    for function in (layer, pytorchs):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = function(x)
        assert y.dtype == torch.bfloat16
        results.append([y, *torch.autograd.grad(y.float().square().sum(), [x, *layer.parameters()])])
    for ours, expected in zip(*results, strict=True):
        assert ours.dtype == expected.dtype and torch.equal(ours, expected)


def test_only_the_gradients_that_are_wanted(layer, x):
    everything = dict(
        zip(["x", "v", "g", "b"], torch.autograd.grad(layer(x).sum(), [x, *layer.parameters()]), strict=True)
    )
    layer.bias.requires_grad_(False)
    layer(x.detach()).sum().backward()
    assert layer.bias.grad is None
    torch.testing.assert_close(layer.weight_v.grad, everything["v"])


def test_gradient_checkpointing_changes_nothing(make_small):
    model = make_small().train()
    waveform = random(1, 2, 8 * model.hop_length)
    results = []
    for checkpointing in (False, True):
        model.enable_gradient_checkpointing() if checkpointing else model.disable_gradient_checkpointing()
        model.zero_grad()
        model(waveform).sample.square().sum().backward()
        results.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(checkpointed, plain)


def test_a_compiled_layer_gives_the_same_gradients(layer, x):
    parameters = [x, *layer.parameters()]
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    expected, found = (
        torch.autograd.grad(function(x).square().sum(), parameters) for function in (layer, compiled)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
