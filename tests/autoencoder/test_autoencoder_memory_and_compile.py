"""Long inputs piece by piece, and `compile`: the results are those without."""

from __future__ import annotations

import pytest
import torch

from star_hf.autoencoder import context, oobleck

CONTEXTS = ["none", "mamba", "transformer"]


@pytest.mark.parametrize("context_type", CONTEXTS)
def test_without_gradients_the_ends_of_both_halves_run_in_pieces(make_small, context_type, monkeypatch):
    autoencoder = make_small(context_type).eval()
    waveform = torch.randn(2, 2, 50 * autoencoder.hop_length)
    latents = autoencoder.encode(waveform).latent_dist.mean
    sample = autoencoder.decode(latents).sample
    assert latents.requires_grad and sample.requires_grad
    for module in (context, oobleck):
        monkeypatch.setattr(module, "PIECE_FRAMES", 7)
    with torch.no_grad():
        torch.testing.assert_close(autoencoder.encode(waveform).latent_dist.mean, latents)
        torch.testing.assert_close(autoencoder.decode(latents).sample, sample)


@torch.no_grad()
def test_encoding_leaves_its_input_alone_and_takes_tiles_that_end_within_a_hop(make_small):
    autoencoder = make_small("none").eval()
    autoencoder.tile_frames = 8
    waveform = torch.randn(1, 2, 50 * autoencoder.hop_length + 3)
    before = waveform.clone()
    expected = autoencoder.encode(waveform).latent_dist.mean
    autoencoder.enable_tiling()
    found = autoencoder.encode(waveform).latent_dist.mean
    assert found.shape[-1] == 51 and torch.equal(waveform, before)
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
@torch.no_grad()
def test_compiling_reaches_what_encode_and_decode_run(make_small):
    graphs = []

    def backend(graph: torch.fx.GraphModule, _):
        graphs.append(graph)
        return graph

    autoencoder = make_small("mamba").eval()
    waveform = torch.randn(1, 2, 40 * autoencoder.hop_length)
    latents = autoencoder.encode(waveform).latent_dist.mean
    sample = autoencoder.decode(latents).sample
    torch._dynamo.reset()
    autoencoder.compile(backend=backend)
    torch.testing.assert_close(autoencoder.encode(waveform).latent_dist.mean, latents)
    encoder_graphs = len(graphs)
    torch.testing.assert_close(autoencoder.decode(latents).sample, sample)
    blocks = len(autoencoder.encoder.block)
    assert encoder_graphs >= blocks and len(graphs) - encoder_graphs >= blocks
    torch._dynamo.reset()
