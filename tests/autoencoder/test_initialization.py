"""A new autoencoder: signals and latents get through its depth from the first step."""

from __future__ import annotations

import math

import pytest
import torch

from star_hf import AutoencoderStar
from star_hf.autoencoder.layers import Conv1d, ConvTranspose1d
from star_hf.autoencoder.oobleck import OobleckResidualUnit

#: The five stages of the default configuration, narrow.
DEEP = {"encoder_hidden_size": 16, "decoder_channels": 16, "decoder_input_channels": 8}


@torch.no_grad()
@pytest.mark.parametrize("context_type", ["none", "mamba"])
@pytest.mark.parametrize("seed", range(3))
def test_a_deep_decoder_depends_on_its_latents(context_type, seed):
    torch.manual_seed(seed)
    autoencoder = AutoencoderStar(**DEEP, context_type=context_type, context_hidden_size=32)
    first, second = autoencoder.decode(torch.randn(2, 8, 6)).sample
    assert torch.linalg.vector_norm(first - second) > 0.1 * torch.linalg.vector_norm(first)
    assert 0.1 < first.std() < 30


@torch.no_grad()
@pytest.mark.parametrize("seed", range(3))
def test_the_posterior_starts_sharp_and_its_mean_depends_on_the_audio(seed):
    torch.manual_seed(seed)
    autoencoder = AutoencoderStar(**DEEP, context_type="none")
    posterior = autoencoder.encode(0.3 * torch.randn(2, 2, 6 * autoencoder.hop_length)).latent_dist
    sharp = math.log1p(math.exp(-3)) + 1e-4
    assert sharp / 3 < posterior.std.median() < 3 * sharp
    first, second = posterior.mean
    assert torch.linalg.vector_norm(first - second) > 0.1 * torch.linalg.vector_norm(first)
    # Without the CNN's contribution it is exact.
    autoencoder.encoder.conv2.scale_(0.0)
    posterior = autoencoder.encode(torch.randn(1, 2, 100)).latent_dist
    assert not posterior.mean.any()
    torch.testing.assert_close(posterior.std, torch.full_like(posterior.std, sharp))


@torch.no_grad()
@pytest.mark.parametrize(
    "layer",
    [
        lambda: Conv1d(64, 48, kernel_size=7, padding=3),
        lambda: Conv1d(64, 64, kernel_size=8, stride=4, padding=2),
        lambda: ConvTranspose1d(64, 48, stride=4),
        lambda: ConvTranspose1d(64, 48, stride=3),
    ],
    ids=["same", "strided", "transposed", "transposed-odd"],
)
def test_convolutions_start_with_unit_gain_and_no_bias(layer):
    torch.manual_seed(0)
    convolution = layer()
    response = convolution(torch.randn(4, 64, 1, 200))
    assert response.std().item() == pytest.approx(1, abs=0.1)
    assert not convolution.bias.any()
    x = torch.randn(1, 64, 1, 20)
    expected = 0.25 * convolution(x)
    convolution.fold()
    convolution.scale_(0.25)
    torch.testing.assert_close(convolution(x), expected)


@torch.no_grad()
def test_residual_units_start_close_to_the_identity():
    torch.manual_seed(0)
    x = torch.randn(2, 64, 1, 300)
    added = OobleckResidualUnit(64, dilation=3)(x) - x
    assert 0.1 < added.std() < 0.6
