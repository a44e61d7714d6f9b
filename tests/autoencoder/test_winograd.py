"""Convolutions of seven taps by minimal filtering, against PyTorch's and in exact numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderOobleck
from torch.nn import functional as F

from star_hf import AutoencoderStar
from star_hf.autoencoder import winograd
from star_hf.autoencoder.layers import Conv1d, to_channels_last
from star_hf.autoencoder.oobleck import GRID_STEPS

pytestmark = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="PyTorch without MKL")
WIDTH = 128
# Of float32, with the filter's rounding: 2e-6 of the output's norm.
TOLERANCE = 5e-6


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    assert actual.shape == expected.shape
    return (torch.linalg.vector_norm(actual - expected) / torch.linalg.vector_norm(expected)).item()


def signal(channels: int, steps: int, batch: int = 1) -> torch.Tensor:
    return to_channels_last(torch.randn(batch, channels, steps))


@pytest.mark.parametrize(("points", "outputs"), [((0.0, 1.0, -1.0), 2), (winograd._POINTS, 4)])
def test_the_filter_is_the_correlation(points, outputs):
    recover, of_weight, of_input = winograd.minimal_filter(points, outputs)
    random = np.random.default_rng(0)
    x, w = random.standard_normal(len(points) + 1), random.standard_normal(len(points) + 2 - outputs)
    np.testing.assert_allclose(
        recover @ ((of_weight @ w) * (of_input @ x)), np.correlate(x, w, "valid"), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("dilation", [1, 3, 9])
# One step, less than the filter reaches, one block, blocks with a rest, many of them.
@pytest.mark.parametrize("steps", [1, 5, 36, 613, 9001])
def test_convolution_is_pytorchs_in_float64(steps, dilation):
    x, weight, bias = signal(24, steps, batch=2), torch.randn(40, 24, 1, 7), torch.randn(40)
    actual = winograd.convolve(x, winograd.transform_weight(weight), bias, dilation)
    expected = F.conv2d(
        x.double(), weight.double(), bias.double(), padding=(0, 3 * dilation), dilation=(1, dilation)
    )
    assert relative_error(actual, expected) < TOLERANCE
    assert actual.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dilation", [1, 3, 9])
def test_what_begins_on_the_grid_is_rounded_alike(dilation):
    x, transformed = signal(WIDTH, 5000), winograd.transform_weight(torch.randn(WIDTH, WIDTH, 1, 7))
    whole, edge = winograd.convolve(x, transformed, None, dilation), 6 * dilation
    for start in (2 * GRID_STEPS, 2 * GRID_STEPS + dilation):
        part = x[..., start:3000].contiguous(memory_format=torch.channels_last)
        inner = winograd.convolve(part, transformed, None, dilation)[..., edge:-edge]
        error = relative_error(inner, whole[..., start + edge : 3000 - edge])
        assert error < 1e-7 if start % GRID_STEPS == 0 else error > 5e-7


def test_no_bias():
    x, weight = signal(8, 100), torch.randn(8, 8, 1, 7)
    actual = winograd.convolve(x, winograd.transform_weight(weight), None, 1)
    assert relative_error(actual, F.conv2d(x.double(), weight.double(), padding=(0, 3))) < TOLERANCE


def test_silence_stays_silent():
    transformed = winograd.transform_weight(torch.randn(8, 8, 1, 7))
    assert not winograd.convolve(torch.zeros_like(signal(8, 50)), transformed, None, 3).any()


@pytest.fixture
def layer():
    return Conv1d(WIDTH, WIDTH, kernel_size=7, dilation=3, padding=9).eval()


def reference(layer: Conv1d, x: torch.Tensor) -> torch.Tensor:
    """What the layer computes, by PyTorch in float64."""
    weight = torch._weight_norm(layer.weight_v.double(), layer.weight_g.double(), 0).unsqueeze(2)
    arguments = {"padding": (0, layer.padding), "dilation": (1, layer.dilation)}
    return F.conv2d(x.double(), weight, layer.bias.double(), **arguments)


@pytest.fixture
def calls(monkeypatch):
    """The number of steps of every convolution that was computed by filtering."""
    seen, convolve = [], winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda x, *rest: seen.append(x.shape[-1]) or convolve(x, *rest))
    return seen


@pytest.mark.parametrize("folded", [True, False])
def test_a_wide_layer_filters_without_gradients(layer, calls, folded):
    x = signal(WIDTH, 2000)
    expected = reference(layer, x)
    if folded:
        layer.fold()
    with torch.no_grad():
        assert relative_error(layer(x), expected) < TOLERANCE
    assert calls == [2000]


@pytest.mark.parametrize("steps", [512, 1500])
def test_gradients_are_those_of_float64(layer, calls, steps):
    x = signal(WIDTH, steps, batch=2).requires_grad_()
    towards = torch.randn(2, WIDTH, 1, steps)
    tensors = [x, *layer.parameters()]
    actual = torch.autograd.grad(layer(x), tensors, towards)
    assert calls == [steps, steps]  # forward, and the gradient of the input
    expected = torch.autograd.grad(reference(layer, x), tensors, towards.double())
    for gradient, exact in zip(actual, expected, strict=True):
        assert relative_error(gradient, exact) < TOLERANCE


def test_a_short_signal_does_not_pay_for_the_weights_transform(layer, calls):
    x = signal(WIDTH, 100)
    with torch.inference_mode():
        expected = layer(x)
        assert calls == []
        layer.fold()
        assert relative_error(layer(x), expected) < TOLERANCE
    assert calls == [100]


@torch.no_grad()
def test_a_folded_layer_follows_its_weights(layer, calls):
    x = signal(WIDTH, 100)
    layer.fold()
    layer(x)
    layer.weight_g.mul_(2)
    layer.unfold()
    twice = layer(x)
    layer.fold()
    assert relative_error(layer(x), twice) < TOLERANCE
    half = layer.to(torch.bfloat16)(x.bfloat16())
    assert half.dtype == torch.bfloat16 and relative_error(half.float(), twice) < 2e-2
    assert relative_error(layer.float()(x), twice) < 1e-2  # its weights were rounded
    assert calls == [100, 100, 100]


@torch.no_grad()
def test_a_folded_layer_under_autocast(layer, calls):
    x = signal(WIDTH, 100)
    layer.fold()
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_error(layer(x).float(), expected) < 2e-2
    assert calls == [100]


def test_gradients_reach_the_input_of_a_folded_layer(layer):
    x = signal(WIDTH, 40).requires_grad_()
    (expected,) = torch.autograd.grad(layer(x).square().sum(), x)
    layer.fold()
    (actual,) = torch.autograd.grad(layer(x).square().sum(), x)
    assert relative_error(actual, expected) < TOLERANCE


@pytest.mark.parametrize("change", [{"kernel_size": 5, "padding": 2}, {"stride": 2}, {"padding": 0}])
@torch.no_grad()
def test_other_layers_do_not_filter(calls, change):
    Conv1d(WIDTH, WIDTH, **{"kernel_size": 7, "padding": 3, **change})(signal(WIDTH, 2000))
    Conv1d(WIDTH // 2, WIDTH, kernel_size=7, padding=3)(signal(WIDTH // 2, 2000))
    assert calls == []


@torch.no_grad()
def test_a_wide_autoencoder_is_diffusers_whole_and_in_tiles(calls):
    torch.manual_seed(0)
    oobleck = AutoencoderOobleck(
        encoder_hidden_size=WIDTH,
        decoder_channels=WIDTH,
        downsampling_ratios=[2, 4],
        channel_multiples=[1, 2],
        decoder_input_channels=WIDTH // 2,
        sampling_rate=8000,
    ).eval()
    model = AutoencoderStar.from_oobleck(oobleck, context_type="none").fold_weight_norm()
    latents, waveform = torch.randn(1, WIDTH // 2, 400), torch.randn(1, 2, 3200)
    expected = oobleck.decode(latents).sample, oobleck.encode(waveform).latent_dist.mean
    whole = model.decode(latents).sample, model.encode(waveform).latent_dist.mean
    model.tile_frames = 111
    model.enable_tiling()
    in_tiles = model.decode(latents).sample, model.encode(waveform).latent_dist.mean
    for output, tiled, reference in zip(whole, in_tiles, expected, strict=True):
        assert relative_error(output, reference) < 1e-5
        assert relative_error(tiled, output) < 3e-6
    assert calls
