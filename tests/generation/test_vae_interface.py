"""The layout of latents, read off the audio VAEs of diffusers and our own."""

import diffusers
import pytest
import torch

from star_hf.generation.vae_interface import LatentLayout, encode_moments, latent_layout, posterior_kind

SMALL = {
    "AutoencoderOobleck": {
        "encoder_hidden_size": 4,
        "downsampling_ratios": [2, 4],
        "channel_multiples": [1, 2],
        "decoder_channels": 4,
        "decoder_input_channels": 3,
        "sampling_rate": 800,
    },
    "AutoencoderKLKVAEAudio": {
        "encoder_dim": 4,
        "encoder_rates": [2, 3],
        "latent_dim": 16,
        "codebook_dim": 3,
        "decoder_dim": 8,
        "decoder_rates": [3, 2],
        "sample_rate": 800,
        "attn_num_heads": 1,
    },
    "LongCatAudioDiTVae": {
        "channels": 4,
        "c_mults": [1, 2],
        "strides": [2, 2],
        "latent_dim": 3,
        "encoder_latent_dim": 6,
        "in_shortcut": "none",
        "out_shortcut": "none",
        "downsampling_ratio": 4,
        "sample_rate": 800,
    },
    "AutoencoderSAME": {
        "patch_size": 4,
        "encoder_channels": 16,
        "encoder_c_mults": [1],
        "encoder_strides": [2],
        "encoder_transformer_depths": [1],
        "latent_dim": 3,
        "dim_heads": 8,
        "sampling_rate": 800,
    },
}


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_layout_is_what_the_vae_decodes(name):
    vae = getattr(diffusers, name)(**SMALL[name]).eval()
    layout = latent_layout(vae)
    assert (layout.latent_channels, layout.sampling_rate) == (3, 800)
    audio = vae.decode(torch.randn(1, layout.latent_channels, 8)).sample
    assert audio.shape[-1] == 8 * layout.hop_length


@pytest.mark.parametrize("name", ["AutoencoderOobleck", "AutoencoderSAME"])
@torch.no_grad()
def test_moments_are_those_of_the_vaes_own_output(name):
    # Oobleck's encoder gives as many means and scales as `encoder_hidden_size` together.
    width = {"encoder_hidden_size": 6} if name == "AutoencoderOobleck" else {}
    vae = getattr(diffusers, name)(**{**SMALL[name], **width}).eval()
    audio = torch.randn(2, vae.config.audio_channels, 4 * latent_layout(vae).hop_length)
    mean, std, kind = encode_moments(vae, audio)
    assert mean.shape == std.shape == (2, 3, 4)
    encoded = vae.encode(audio)
    if name == "AutoencoderSAME":
        assert torch.equal(mean, encoded.latents) and not std.any()
    else:
        assert torch.equal(mean, encoded.latent_dist.mean) and torch.equal(std, encoded.latent_dist.std)
    assert kind == posterior_kind(vae) == ("deterministic" if name == "AutoencoderSAME" else "gaussian")


@pytest.mark.parametrize(
    ("bottleneck", "settings", "kind"),
    [
        ("gaussian", {}, "gaussian"),
        ("sigma", {"sigma": 0.5}, "sigma"),
        ("soft_normalization", {}, "deterministic"),
    ],
)
def test_kind_of_posterior_of_autoencoder_star(tiny_autoencoder, bottleneck, settings, kind):
    assert posterior_kind(tiny_autoencoder.with_bottleneck(bottleneck, **settings)) == kind


def test_layout_of_autoencoder_star(tiny_autoencoder):
    assert latent_layout(tiny_autoencoder) == LatentLayout(4, 16, 8000)


@pytest.mark.parametrize(
    ("seconds", "samples", "frames"),
    [(1.0, 44100, 22), (5.0, 220500, 108), (2048 / 44100, 2048, 1), (1e-5, 0, 0)],
)
def test_durations_are_rounded_to_samples_and_up_to_frames(seconds, samples, frames):
    layout = LatentLayout(latent_channels=64, hop_length=2048, sampling_rate=44100)
    assert (layout.num_samples(seconds), layout.num_frames(seconds)) == (samples, frames)
