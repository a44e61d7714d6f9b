"""`AutoencoderLafa`: a frozen autoencoder inside, latents of its own, and a flow that leads back."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import AutoencoderOobleck
from safetensors.torch import load_file, save_file

from star_hf import AutoencoderLafa, AutoencoderStar
from star_hf.data import vae_fingerprint
from star_hf.generation.vae_interface import LatentLayout, latent_layout

WEIGHTS = "diffusion_pytorch_model.safetensors"
STATISTICS = {"inner_latents_mean": [0.1, -0.2, 0.3, 0.0], "inner_latents_std": [1.0, 2.0, 0.5, 1.5]}


@pytest.fixture
def oobleck() -> AutoencoderOobleck:
    torch.manual_seed(0)
    return AutoencoderOobleck(
        encoder_hidden_size=8,
        downsampling_ratios=[2, 4],
        channel_multiples=[1, 2],
        decoder_channels=4,
        decoder_input_channels=4,
        audio_channels=1,
        sampling_rate=8000,
    ).eval()


@torch.no_grad()
@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
@pytest.mark.parametrize("inner", ["star", "oobleck"])
def test_one_folder_holds_everything(make_lafa, oobleck, tmp_path, inner, low_cpu_mem_usage):
    model = make_lafa(oobleck if inner == "oobleck" else None, **STATISTICS)
    model.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", WEIGHTS}
    loaded = AutoencoderLafa.from_pretrained(tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
    x = torch.randn(1, model.config.audio_channels, 100)
    assert torch.equal(loaded(x).latent_dist.mean, model(x).latent_dist.mean)
    torch.testing.assert_close(loaded(x).sample, model(x).sample, rtol=1e-4, atol=1e-5)
    weights = loaded.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert not loaded.training and not any(p.requires_grad for p in loaded.inner.parameters())
    assert all(p.requires_grad for part in (loaded.encoder, loaded.decoder) for p in part.parameters())


def test_a_folder_tells_nothing_of_where_the_inner_model_was(make_lafa, tiny_autoencoder, tmp_path):
    tiny_autoencoder.save_pretrained(tmp_path / "inner")
    model = make_lafa(AutoencoderStar.from_pretrained(tmp_path / "inner"))
    model.save_pretrained(tmp_path / "lafa")
    config = (tmp_path / "lafa" / "config.json").read_text()
    assert str(tmp_path) not in config
    assert json.loads(config)["inner_vae"]["_class_name"] == "AutoencoderStar"


def test_training_mode_and_gradients_leave_the_inner_model_alone(make_lafa):
    model = make_lafa().train()
    assert model.encoder.training and model.decoder.training
    assert not any(module.training for module in model.inner.modules())
    model(torch.randn(1, 2, 64)).sample.square().sum().backward()
    assert all(p.grad is None for p in model.inner.parameters())
    assert all(p.grad is not None for p in (*model.encoder.parameters(), *model.decoder.parameters()))


@torch.no_grad()
def test_it_is_made_of_its_parts(make_lafa, tiny_autoencoder):
    """Normalize the inner means, encode; two Euler steps from noise, undo the normalization, decode."""
    model = make_lafa(**STATISTICS)
    mean = torch.tensor(STATISTICS["inner_latents_mean"])[:, None]
    std = torch.tensor(STATISTICS["inner_latents_std"])[:, None]
    x = torch.randn(1, 2, 75)
    latents = (tiny_autoencoder.encode(x).latent_dist.mean - mean) / std
    h = model.encoder(latents)
    assert h.shape == (1, 4, 5)
    torch.testing.assert_close(model.encode(x).latent_dist.mean, h)

    noise = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(3))
    half = noise + model.decoder(noise, h, torch.zeros(1)) / 2
    whole = half + model.decoder(half, h, torch.full((1,), 0.5)) / 2
    expected = tiny_autoencoder.decode(whole * std + mean).sample
    actual = model.decode(h, generator=torch.Generator().manual_seed(3)).sample
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_posterior_has_no_spread(make_lafa):
    posterior = make_lafa().encode(torch.randn(1, 2, 64)).latent_dist
    assert not posterior.std.any()
    assert torch.equal(posterior.sample(), posterior.mean) and torch.equal(posterior.mode(), posterior.mean)


@torch.no_grad()
@pytest.mark.parametrize("samples", [1, 15, 16, 17, 100])
@pytest.mark.parametrize("inner", ["star", "oobleck"])
def test_any_length_comes_back_whole(make_lafa, oobleck, samples, inner):
    model = make_lafa(oobleck if inner == "oobleck" else None)
    x = torch.randn(2, model.config.audio_channels, samples)
    output = model(x)
    assert output.sample.shape == x.shape
    assert output.latent_dist.mean.shape == (2, 4, -(-samples // model.hop_length))


@torch.no_grad()
def test_decoding_is_deterministic_unless_a_generator_says_otherwise(make_lafa):
    model, h = make_lafa(), torch.randn(3, 4, 6)
    expected = model.decode(h).sample
    torch.manual_seed(99)
    assert torch.equal(model.decode(h).sample, expected)
    alone = torch.cat([model.decode(row[None]).sample for row in h])
    torch.testing.assert_close(alone, expected)
    drawn = [model.decode(h, generator=torch.Generator().manual_seed(seed)).sample for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.allclose(drawn[0], drawn[2])
    each = [torch.Generator().manual_seed(1) for _ in h]
    torch.testing.assert_close(
        model.decode(h, generator=each).sample[:1],
        model.decode(h[:1], generator=torch.Generator().manual_seed(1)).sample,
    )


@torch.no_grad()
def test_the_regression_takes_no_noise(make_lafa):
    model, h = make_lafa(decoder_objective="mse"), torch.randn(2, 4, 6)
    latents = model.decode_latents(h, generator=torch.Generator().manual_seed(5))
    assert torch.equal(latents, model.decoder(torch.zeros(2, 4, 6), h, torch.zeros(2)))


@torch.no_grad()
def test_slices_and_tiles_leave_the_result_unchanged(make_lafa):
    model, x = make_lafa(), torch.randn(2, 2, 160)
    expected = model(x)
    model.enable_slicing()
    model.enable_tiling()
    model.inner.vae.tile_frames = 3
    actual = model(x)
    torch.testing.assert_close(actual.latent_dist.mean, expected.latent_dist.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual.sample, expected.sample, rtol=1e-4, atol=1e-5)
    model.disable_tiling()
    assert not model.inner.vae.use_tiling


@torch.no_grad()
def test_statistics_are_those_of_the_waveforms(make_lafa, tmp_path):
    model = make_lafa()
    waveforms = [torch.randn(2, 2, 160), 3 * torch.randn(1, 2, 320)]
    model.fit_inner_statistics(waveforms)
    latents = [model.inner.encode(waveform) for waveform in waveforms]
    frames = torch.cat([rows.transpose(0, 1).flatten(1) for rows in latents], dim=1)
    torch.testing.assert_close(frames.mean(dim=1), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(frames.std(dim=1, correction=0), torch.ones(4))
    model.fit_latents_statistics(latents)
    h = torch.cat([model.encoder(rows).transpose(0, 1).flatten(1) for rows in latents], dim=1)
    torch.testing.assert_close(torch.tensor(model.config.latents_mean), h.mean(dim=1))
    torch.testing.assert_close(torch.tensor(model.config.latents_std), h.std(dim=1, correction=0))
    model.save_pretrained(tmp_path)
    loaded = AutoencoderLafa.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode(waveforms[0]).latent_dist.mean, model.encoder(latents[0]))


def test_statistics_of_the_inner_model_are_taken_over(make_lafa, tiny_autoencoder):
    tiny_autoencoder.register_to_config(latents_mean=[1.0] * 4, latents_std=[2.0] * 4)
    model = make_lafa()
    assert model.config.inner_latents_std == [2.0] * 4 and model.inner.mean.unique() == 1
    # those of h are others
    assert model.config.latents_std is None


def test_pipelines_find_the_layout(make_lafa, oobleck):
    model = make_lafa()
    assert latent_layout(model) == LatentLayout(latent_channels=4, hop_length=16, sampling_rate=8000)
    assert model.frame_rate == 500 and model.config.audio_channels == 2
    assert latent_layout(make_lafa(oobleck, latent_channels=8)).latent_channels == 8


def test_a_fingerprint_is_of_what_makes_the_latents(make_lafa):
    model = make_lafa()
    before = vae_fingerprint(model)
    model.decoder.in_proj.bias.data += 1
    assert vae_fingerprint(model) == before
    model.encoder.in_proj.bias.data += 1
    assert vae_fingerprint(model) != before


def test_noise_of_the_inner_decoder_is_left_out(tiny_autoencoder, make_lafa):
    tiny_autoencoder.register_to_config(latent_noise=0.1)
    assert make_lafa().config.inner_vae["latent_noise"] == 0


def test_half_precision_works(make_lafa, tmp_path):
    make_lafa().save_pretrained(tmp_path)
    loaded = AutoencoderLafa.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    with torch.no_grad():
        sample = loaded(torch.randn(1, 2, 50, dtype=torch.bfloat16)).sample
    assert sample.dtype == torch.bfloat16 and torch.isfinite(sample).all()


def test_keys_that_do_not_fit_are_refused(make_lafa, tmp_path):
    make_lafa().save_pretrained(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    weights["encoder.extra"] = weights.pop("encoder.position")
    save_file(weights, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"missing: encoder.position; unexpected: encoder.extra"):
        AutoencoderLafa.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="of class AutoencoderLafa, not AutoencoderStar"):
        AutoencoderStar.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_objective": "gan"}, "`decoder_objective` must be one of flow, mse, got 'gan'"),
        ({"decoder_steps": 0}, "`decoder_steps` must be at least 1, got 0"),
        ({"inner_latents_mean": [0.0]}, "`inner_latents_mean` must have one number for each of 4 channels"),
        ({"latents_std": [1.0] * 3}, "`latents_std`.*got 3"),
        ({"inner_latents_std": [1.0, 0.0, 1.0, 1.0]}, "`inner_latents_std` must be above 0, got 0.0"),
        ({"inner_vae": {"_class_name": "os"}}, "`inner_vae` must be the configuration.*_class_name 'os'"),
        ({"inner_vae": {}}, "`inner_vae` must be"),
    ],
)
def test_bad_configurations_are_refused(make_lafa, options, message):
    with pytest.raises(ValueError, match=message):
        make_lafa(**options)


def test_what_is_no_waveform_or_no_latents_is_refused(make_lafa):
    model = make_lafa()
    for x in (torch.randn(2, 64), torch.randn(1, 1, 64), torch.randn(1, 2, 0)):
        with pytest.raises(ValueError, match=r"`x` must be a waveform of shape \(batch, 2, samples > 0\)"):
            model.encode(x)
    for z in (torch.randn(4, 6), torch.randn(1, 3, 6), torch.randn(1, 4, 0)):
        with pytest.raises(ValueError, match=r"`z` must be latents of shape \(batch, 4, frames > 0\)"):
            model.decode(z)
    with pytest.raises(ValueError, match="at least two frames, got 0"):
        model.fit_inner_statistics([])


def test_a_vae_without_a_layout_is_refused(make_lafa):
    from diffusers import AutoencoderTiny

    with pytest.raises(ValueError, match="AutoencoderTiny has no sampling_rate, audio_channels, hop_length"):
        make_lafa(
            AutoencoderTiny(
                encoder_block_out_channels=(8,),
                decoder_block_out_channels=(8,),
                num_encoder_blocks=(1,),
                num_decoder_blocks=(1,),
            )
        )
