"""Encoded clips: standardized, drawn as their posterior says, and back to what the decoder takes."""

from __future__ import annotations

import pytest
import torch
from probe_setup import RATE, LinearCodec

from star_hf.probe.latents import ClipLatents, PosteriorStore, encode_clips


def _all_latents(encoded):
    return torch.cat([encoded[index].mean for index in range(encoded.num_training)])


def test_latents_are_standardized_over_the_training_clips(clips, tmp_path):
    encoded = encode_clips(LinearCodec(std=0.0, kind="deterministic"), clips, tmp_path)
    latents = _all_latents(encoded)
    assert latents.shape[1] == encoded.channels == 6
    assert latents.mean(dim=0).tolist() == pytest.approx([0] * 6, abs=1e-2)
    assert latents.std(dim=0, correction=0).tolist() == pytest.approx([1] * 6, rel=1e-2)


def test_the_posterior_s_noise_is_part_of_the_variance(clips, tmp_path):
    encoded = encode_clips(LinearCodec(std=0.5), clips, tmp_path)
    spread = _all_latents(encoded).var(dim=0, correction=0) + encoded[0].std[0].square()
    assert spread.tolist() == pytest.approx([1] * 6, rel=1e-2)


def test_the_decoder_gets_its_own_latents_back(clips, tmp_path):
    codec = LinearCodec(constant=2)
    encoded = encode_clips(codec, clips, tmp_path)
    index = encoded.num_training + 1
    expected = codec.encode(clips.held_out.read(1, RATE, 1)[None]).mean
    restored = encoded.for_decoder(encoded[index].mean)
    assert torch.allclose(restored, expected, atol=5e-3)
    assert torch.allclose(encoded.posterior_mean(index), expected, atol=5e-3)
    assert encoded.num_frames[index] == expected.shape[2]


def test_constant_channels_are_left_to_their_mean(clips, tmp_path):
    encoded = encode_clips(LinearCodec(std=0.0, constant=2), clips, tmp_path)
    assert encoded.varying.tolist() == [0, 1, 2, 3, 4, 5] and encoded.channels == 6
    wild = encoded.for_decoder(torch.randn(5, 6) * 100)
    assert wild[0, 6:].tolist() == [[3.0] * 5] * 2
    with pytest.raises(ValueError, match="LinearCodec|Linear: the latents are the same for all"):
        codec = LinearCodec(std=0.0)
        codec.model.weight.data.zero_()
        encode_clips(codec, clips, tmp_path)


def test_what_changes_is_kept_however_far_from_zero(clips, tmp_path):
    class Far(LinearCodec):
        def _encode(self, waveform):
            moments = super()._encode(waveform)
            return moments._replace(mean=moments.mean + 1e4)

    near, far = (encode_clips(kind(std=0.0), clips, tmp_path) for kind in (LinearCodec, Far))
    assert torch.allclose(near[0].mean, far[0].mean, atol=0.02)


def test_disk_is_memory(clips, tmp_path):
    memory = encode_clips(LinearCodec(), clips, tmp_path)
    assert not list(tmp_path.glob("*.npy"))
    disk = encode_clips(LinearCodec(), clips, tmp_path, memory_limit=1000)
    files = list(tmp_path.glob("*.npy"))
    assert 0 < len(files) < len(disk.num_frames)
    for index in range(len(disk.num_frames)):
        assert torch.equal(memory[index].mean, disk[index].mean)
        assert torch.equal(memory[index].std, disk[index].std)


def test_latents_beyond_half_precision_are_refused(clips, tmp_path):
    codec = LinearCodec()
    codec.model.weight.data *= 1e6
    with pytest.raises(ValueError, match=r"Linear: .*\.wav: latents of up to .* not finite"):
        encode_clips(codec, clips, tmp_path)
    with pytest.raises(ValueError, match="nan are not finite"):
        PosteriorStore(tmp_path).append(torch.tensor([torch.nan]))


def test_an_autoencoder_that_says_another_number_of_channels_is_refused(clips, tmp_path):
    codec = LinearCodec()
    codec.latent_channels = 5
    with pytest.raises(ValueError, match="Linear: gives 6 latent channels, its configuration says 5"):
        encode_clips(codec, clips, tmp_path)


def test_draws_have_the_posterior_s_moments_and_the_same_numbers_for_all():
    mean, std = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 2.0]])
    generators = [torch.Generator().manual_seed(seed) for seed in range(4000)]
    draws = torch.cat([ClipLatents(mean, std, "gaussian").draw(g)[0] for g in generators])
    assert torch.allclose(draws.mean(dim=0), mean[0], atol=0.1)
    assert torch.allclose(draws.std(dim=0), std[0], rtol=0.05)

    following = []
    for kind in ("gaussian", "sigma", "deterministic"):
        generator = torch.Generator().manual_seed(1)
        drawn, noise_std = ClipLatents(mean, std * (kind != "deterministic"), kind).draw(generator)
        following.append(torch.randn(3, generator=generator))
        if kind == "deterministic":
            assert torch.equal(drawn, mean) and not noise_std.any()
    assert torch.equal(following[0], following[1]) and torch.equal(following[0], following[2])


def test_a_sigma_vae_has_one_scale_for_each_draw():
    mean, std = torch.zeros(2000, 2), torch.ones(2000, 2)
    scales = []
    for seed in range(200):
        drawn, noise_std = ClipLatents(mean, std, "sigma").draw(torch.Generator().manual_seed(seed))
        assert noise_std.unique().numel() == 1
        assert drawn.std().item() == pytest.approx(noise_std[0, 0].item(), rel=0.1)
        scales.append(noise_std[0, 0].item())
    assert torch.tensor(scales).square().mean().item() == pytest.approx(1, abs=0.3)
