"""`AutoencoderStar`: lengths, outputs, precisions, gradients and refused arguments."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from star_hf import AutoencoderStar
from star_hf.autoencoder import (
    AutoencoderStarDecoderOutput,
    AutoencoderStarEncoderOutput,
    AutoencoderStarOutput,
)

CONTEXTS = ["none", "mamba", "transformer"]


@torch.no_grad()
@pytest.mark.parametrize("samples", [1, 2, 31, 32, 33, 1000])
@pytest.mark.parametrize("context_type", CONTEXTS)
def test_any_length_comes_back(make_small, context_type, front_end, samples):
    autoencoder = make_small(context_type, **front_end)
    assert autoencoder.hop_length == 8 * front_end.get("filterbank_bands", 1)
    x = torch.randn(2, 2, samples)
    output = autoencoder(x)
    assert output.sample.shape == x.shape and torch.isfinite(output.sample).all()
    frames = math.ceil(samples / autoencoder.hop_length)
    assert output.latent_dist.mean.shape == output.latent_dist.std.shape == (2, 3, frames)
    assert autoencoder.decode(output.latent_dist.mean).sample.shape == (2, 2, frames * autoencoder.hop_length)


@pytest.mark.slow
@torch.no_grad()
def test_three_minutes_come_back_and_tiles_change_nothing(make_small):
    autoencoder = make_small("mamba", filterbank_bands=32, downsampling_ratios=[4, 8], sampling_rate=44100)
    samples = 180 * 44100
    x = torch.randn(1, 2, samples)
    untiled = autoencoder(x)
    assert untiled.sample.shape == x.shape
    assert untiled.latent_dist.mean.shape[-1] == math.ceil(samples / 1024)
    autoencoder.enable_tiling()
    tiled = autoencoder(x)
    for ours, expected in (
        (tiled.latent_dist.mean, untiled.latent_dist.mean),
        (tiled.sample, untiled.sample),
    ):
        assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.no_grad()
def test_padding_is_silence(make_small):
    autoencoder = make_small()
    x = torch.randn(1, 2, 21)
    padded = torch.cat([x, torch.zeros(1, 2, 3)], dim=-1)
    assert torch.equal(autoencoder.encode(x).latent_dist.mean, autoencoder.encode(padded).latent_dist.mean)


@torch.no_grad()
def test_mono_autoencoders_work(make_small):
    autoencoder = make_small(audio_channels=1)
    assert autoencoder(torch.randn(1, 1, 20)).sample.shape == (1, 1, 20)


@torch.no_grad()
def test_outputs_are_named_or_tuples(make_small):
    autoencoder = make_small()
    x = torch.randn(1, 2, 16)
    encoded, decoded = autoencoder.encode(x), autoencoder.decode(torch.randn(1, 3, 2))
    assert isinstance(encoded, AutoencoderStarEncoderOutput)
    assert isinstance(decoded, AutoencoderStarDecoderOutput)
    assert isinstance(autoencoder(x), AutoencoderStarOutput)
    (posterior,) = autoencoder.encode(x, return_dict=False)
    assert torch.equal(posterior.mean, encoded.latent_dist.mean)
    (sample,) = autoencoder.decode(posterior.mean, return_dict=False, generator=torch.Generator())
    (reconstruction,) = autoencoder(x, return_dict=False)
    assert torch.equal(sample, reconstruction)


@torch.no_grad()
def test_forward_decodes_the_mean_or_a_draw(make_small):
    autoencoder = make_small()
    x = torch.randn(1, 2, 20)
    posterior = autoencoder.encode(x).latent_dist
    assert torch.equal(autoencoder(x).sample, autoencoder.decode(posterior.mean).sample[..., :20])
    draws = [
        autoencoder(x, sample_posterior=True, generator=torch.Generator().manual_seed(seed)).sample
        for seed in (5, 5, 6)
    ]
    latents = posterior.sample(torch.Generator().manual_seed(5))
    assert torch.equal(draws[0], autoencoder.decode(latents).sample[..., :20])
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_rates_follow_from_the_configuration():
    autoencoder = AutoencoderStar(
        encoder_hidden_size=2,
        decoder_channels=2,
        channel_multiples=[1, 1, 1, 1, 1],
        decoder_input_channels=2,
        context_type="none",
    )
    assert autoencoder.hop_length == 2048
    assert autoencoder.sampling_rate == 44100
    assert autoencoder.frame_rate == pytest.approx(21.533, abs=1e-3)
    assert autoencoder.tile_frames == 215


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 100), r"`x`.*\(batch, 2, samples > 0\).*\(2, 100\)"),
        ((1, 1, 100), r"`x`.*\(1, 1, 100\)"),
        ((1, 7, 100), r"`x`.*\(1, 7, 100\)"),
        ((1, 2, 0), r"`x`.*\(1, 2, 0\)"),
        ((1, 2, 10, 1), r"`x`.*\(1, 2, 10, 1\)"),
    ],
)
def test_waveforms_of_another_shape_are_refused(make_small, shape, message):
    with pytest.raises(ValueError, match=message):
        make_small().encode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 10), (1, 4, 10), (1, 3, 0), (1, 3, 10, 1)])
def test_latents_of_another_shape_are_refused(make_small, shape):
    with pytest.raises(ValueError, match=r"`z`.*\(batch, 3, frames > 0\)"):
        make_small().decode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"downsampling_ratios": [2]}, "`downsampling_ratios` and `channel_multiples`.*1 and 2"),
        ({"downsampling_ratios": [], "channel_multiples": []}, "`downsampling_ratios`.*0 and 0"),
        ({"downsampling_ratios": [1, 2]}, r"`downsampling_ratios` must be at least 2, not \[1, 2\]"),
        ({"filterbank_bands": 3}, "`filterbank_bands`.*3"),
        ({"filterbank_bands": 0}, "`filterbank_bands`.*0"),
        ({"filterbank_bands": -2}, "`filterbank_bands`.*-2"),
        ({"filterbank_scales": [1.0]}, "`filterbank_scales`.*`filterbank_bands` > 1"),
        ({"filterbank_exponent": 0.5}, "`filterbank_exponent` need `filterbank_bands` > 1"),
        ({"filterbank_bands": 4, "filterbank_scales": [1.0, 2.0]}, "`scales` must be 4"),
        ({"filterbank_bands": 4, "filterbank_exponent": 0.0}, "`exponent`.*0.0"),
        ({"filterbank_type": "pqmf"}, "`filterbank_type`.*lapped, noise_excited.*'pqmf'"),
        ({"filterbank_type": "noise_excited"}, "`filterbank_type`.*`filterbank_bands` > 1"),
        (
            {"filterbank_bands": 4, "filterbank_type": "noise_excited", "filterbank_exponent": 0.5},
            "`filterbank_exponent` belongs to the 'lapped' front end",
        ),
        (
            {"filterbank_bands": 4, "filterbank_type": "noise_excited", "filterbank_scales": [1.0, -1.0]},
            r"`scales` must be positive.*-1\.0",
        ),
        ({"linear_shortcut": True}, "`linear_shortcut` needs `filterbank_bands` > 1"),
        ({"context_type": "gru"}, "`context_type`.*'gru'"),
        ({"context_type": "mamba", "num_context_layers": 0}, "`num_context_layers`.*0"),
        ({"context_type": "mamba", "context_hidden_size": 100}, "`context_hidden_size`.*100"),
        ({"latents_mean": [0.0] * 4}, "`latents_mean`.*3 latent channels.*4"),
        ({"latents_std": [1.0] * 2}, "`latents_std`.*3 latent channels.*2"),
    ],
)
def test_configurations_that_no_model_can_have_are_refused(small_config, config, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderStar(**{**small_config, "context_type": "none", **config})


@pytest.mark.parametrize("context_type", CONTEXTS)
def test_bfloat16_stays_close_to_float32(make_small, context_type, front_end):
    autoencoder = make_small(context_type, **front_end)
    x = 0.5 * torch.randn(1, 2, 200)
    with torch.no_grad():
        expected = autoencoder.encode(x).latent_dist.mean
        decoded = autoencoder.decode(expected).sample
        autoencoder.bfloat16()
        latents = autoencoder.encode(x.bfloat16()).latent_dist.mean
        sample = autoencoder.decode(expected.bfloat16()).sample
    assert latents.dtype == sample.dtype == torch.bfloat16
    for ours, reference in ((latents, expected), (sample, decoded)):
        assert torch.linalg.vector_norm(ours - reference) < 0.05 * torch.linalg.vector_norm(reference)


@pytest.mark.parametrize("context_type", CONTEXTS)
def test_autocast_trains_float32_parameters(make_small, context_type):
    autoencoder = make_small(context_type, filterbank_bands=4).train()
    x = 0.5 * torch.randn(1, 2, 200)

    def gradients():
        autoencoder.zero_grad()
        output = autoencoder(x)
        ((output.sample.float() - x).square().mean() + output.latent_dist.kl().float().mean()).backward()
        return torch.cat([p.grad.flatten() for p in autoencoder.parameters()])

    expected = gradients()
    with torch.autocast("cpu", torch.bfloat16):
        half = gradients()
    assert half.dtype == torch.float32
    # the many snakes of an untrained CNN multiply rounding errors
    assert torch.linalg.vector_norm(half - expected) < 0.4 * torch.linalg.vector_norm(expected)


@pytest.mark.parametrize("context_type", CONTEXTS)
def test_gradient_checkpointing_gives_equal_gradients(make_small, context_type, front_end):
    autoencoder = make_small(context_type, **front_end).train()
    x = torch.randn(2, 2, 100)
    parts = [autoencoder.encoder.block[0], autoencoder.decoder.block[1]]
    if context_type != "none":
        parts += [autoencoder.encoder.context.layers[0], autoencoder.decoder.context.layers[0]]
    calls = []
    for part in parts:
        part.register_forward_pre_hook(lambda module, inputs: calls.append(module))

    def gradients():
        calls.clear()
        autoencoder.zero_grad()
        autoencoder(x).sample.square().mean().backward()
        return {name: p.grad.clone() for name, p in autoencoder.named_parameters()}

    expected = gradients()
    assert len(calls) == len(parts)
    autoencoder.enable_gradient_checkpointing()
    checkpointed = gradients()
    # Each part ran again in the backward pass.
    assert len(calls) == 2 * len(parts)
    for name, gradient in checkpointed.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-7, msg=name)
    autoencoder.disable_gradient_checkpointing()
    gradients()
    assert len(calls) == len(parts)


@pytest.mark.parametrize("context_type", CONTEXTS)
def test_every_parameter_gets_a_gradient(make_small, context_type, front_end):
    autoencoder = make_small(context_type, **front_end).train()
    output = autoencoder(torch.randn(1, 2, 90), sample_posterior=True)
    (output.sample.square().mean() + output.latent_dist.kl().mean()).backward()
    silent = [name for name, p in autoencoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@torch.no_grad()
@pytest.mark.parametrize("folded", [False, True])
def test_a_deep_copy_is_equal_and_independent(make_small, folded):
    autoencoder = make_small("mamba", filterbank_bands=2)
    if folded:
        autoencoder.fold_weight_norm()
    x = torch.randn(1, 2, 60)
    expected = autoencoder(x).sample
    twin = copy.deepcopy(autoencoder)
    assert torch.equal(twin(x).sample, expected)
    for parameter in twin.parameters():
        parameter.zero_()
    assert torch.equal(autoencoder(x).sample, expected)
    assert dict(twin.config) == dict(autoencoder.config)


@torch.no_grad()
def test_folding_weight_norm_changes_nothing_until_training_drops_it(make_small):
    autoencoder = make_small("mamba")
    x = torch.randn(1, 2, 60)
    expected = autoencoder(x).sample
    assert autoencoder.fold_weight_norm() is autoencoder
    torch.testing.assert_close(autoencoder(x).sample, expected, rtol=1e-6, atol=1e-6)
    for name, parameter in autoencoder.named_parameters():
        if name.endswith("weight_g"):
            parameter.mul_(1.5)
    torch.testing.assert_close(autoencoder(x).sample, expected, rtol=1e-6, atol=1e-6)
    changed = autoencoder.train().eval()(x).sample
    assert (changed - expected).abs().max() > 1e-3 * expected.abs().max()


@torch.no_grad()
def test_loading_weights_and_casting_replace_folded_weights(make_small):
    autoencoder, x = make_small(), torch.randn(1, 2, 60)
    torch.manual_seed(7)
    other = copy.deepcopy(autoencoder)
    for parameter in other.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    autoencoder.fold_weight_norm().load_state_dict(other.state_dict())
    assert torch.equal(autoencoder(x).sample, other(x).sample)
    autoencoder.fold_weight_norm()
    torch.testing.assert_close(
        autoencoder.double()(x.double()).sample, other.double()(x.double()).sample, rtol=1e-12, atol=1e-12
    )
