"""Small autoencoders whose every parameter matters to the output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from star_hf import AutoencoderStar

SMALL = {
    "encoder_hidden_size": 6,
    "downsampling_ratios": [2, 4],
    "channel_multiples": [1, 2],
    "decoder_channels": 4,
    "decoder_input_channels": 3,
    "sampling_rate": 8000,
    "num_context_layers": 1,
    "context_hidden_size": 8,
}


def randomize(model: nn.Module) -> nn.Module:
    """Give every parameter that starts at zero (Snake's, biases, the context's last layer) another value."""
    for parameter in model.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.3)
    return model


#: The front end and the linear path that render spectra with noise.
NOISE_EXCITED = {
    "filterbank_bands": 4,
    "filterbank_type": "noise_excited",
    "filterbank_scales": [0.4, 0.1],
    "linear_shortcut": True,
}


@pytest.fixture
def noise_excited():
    return dict(NOISE_EXCITED)


@pytest.fixture(params=[{}, {"filterbank_bands": 4}, NOISE_EXCITED], ids=["plain", "lapped", "noise"])
def front_end(request):
    """Configuration of each kind of front end."""
    return dict(request.param)


@pytest.fixture
def randomized():
    return randomize


@pytest.fixture
def small_config():
    return dict(SMALL)


@pytest.fixture
def make_small():
    """Builds a seeded stereo `AutoencoderStar` for evaluation, with hop 8 · bands and 3 latent channels."""

    def make(context_type: str = "none", **config) -> AutoencoderStar:
        torch.manual_seed(1)
        return randomize(AutoencoderStar(**{**SMALL, "context_type": context_type, **config})).eval()

    return make
