"""A small LAFA whose every parameter matters to the output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from star_hf import AutoencoderLafa

SMALL = {
    "encoder_hidden_size": 8,
    "encoder_layers": 2,
    "channel_patch": 2,
    "decoder_hidden_size": 8,
    "decoder_layers": 2,
}


def randomize(module: nn.Module) -> nn.Module:
    """Give every parameter that starts at zero another value."""
    for parameter in module.parameters():
        if not parameter.detach().any():
            nn.init.normal_(parameter, std=0.3)
    return module


@pytest.fixture
def randomized():
    return randomize


@pytest.fixture
def make_lafa(tiny_autoencoder):
    """Builds a seeded `AutoencoderLafa` around `tiny_autoencoder`, or around another `vae`."""

    def make(vae=None, **config) -> AutoencoderLafa:
        torch.manual_seed(2)
        model = AutoencoderLafa.from_vae(vae or tiny_autoencoder, **{**SMALL, **config})
        randomize(model.encoder)
        randomize(model.decoder)
        return model.eval()

    return make
