"""The audit of whole autoencoders: a linear one whose answers are known, and every family at a tiny size."""

from __future__ import annotations

import json
import math

import diffusers
import numpy as np
import pytest
import torch
from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel

from star_hf import AutoencoderLafa, write_audio
from star_hf.audio import AudioError
from star_hf.audit import (
    AuditSettings,
    ClipReader,
    Codec,
    Labels,
    as_codec,
    audit_codec,
    choose_clips,
    inspect_codec,
    load_codec,
    write_json,
)
from star_hf.audit.decoding import channel_grid, keep_channels
from star_hf.audit.residuals import channel_residuals, shown_channels
from star_hf.evaluation import mel_distance, stft_distance
from star_hf.generation.vae_interface import LatentMoments

RATE, HOP = 8000, 4


class LinearCodec(Codec):
    """Orthonormal: latent channel c is row c of a 4 × 4 DCT of each four samples, in units of 0.1."""

    def __init__(self, posterior_std: float = 0.1):
        model = torch.nn.Identity()
        model.config = type("Config", (), {"audio_channels": 1})()
        super().__init__(model, HOP, HOP, RATE)
        index = torch.arange(HOP, dtype=torch.float32)
        basis = torch.cos(math.pi / HOP * (index + 0.5) * index[:, None]) * math.sqrt(2 / HOP)
        basis[0] /= math.sqrt(2)
        self.basis, self.posterior_std = basis, posterior_std

    def _encode(self, waveform):
        mean = 10 * self.basis @ waveform[:, 0].unflatten(-1, (-1, HOP)).transpose(1, 2)
        return LatentMoments(mean, torch.full_like(mean, self.posterior_std), "gaussian")

    def _decode(self, latents):
        return (self.basis.T @ latents / 10).transpose(1, 2).flatten(1)[:, None]


@pytest.fixture
def make_reader(tmp_path):
    def make(number=3, seconds=0.5, rate=RATE, channels=1, **options):
        rows = []
        for index in range(number):
            noise = 0.1 * torch.randn(channels, round(seconds * rate)).cumsum(dim=-1).sin()
            rows.append({"audio": str(write_audio(tmp_path / f"{index}.wav", noise, rate))})
        return ClipReader(rows, **options)

    return make


def test_the_truncation_curve_of_a_linear_codec(make_reader):
    codec, clips = LinearCodec(), make_reader(2)
    report = audit_codec(codec, clips, AuditSettings(decoded_clips=2, residuals=False)).report
    decoder = report["decoder"]
    assert decoder["truncation_head"]["x"] == [1, 2, 3, 4] and decoder["num_clips"] == 2

    expected = []
    for clip in range(2):
        (piece,) = clips.pieces(clip, RATE, 1, HOP)
        blocks = piece.waveform[0].unflatten(-1, (-1, HOP))
        projected = (blocks @ codec.basis[:2].T @ codec.basis[:2]).flatten()[None, None]
        pair = projected, piece.waveform[None]
        expected.append((stft_distance(*pair).item(), mel_distance(*pair, RATE).item()))
    stft, mel = np.mean(expected, axis=0)
    assert decoder["truncation_head"]["stft"][1] == pytest.approx(stft, rel=1e-4)
    assert decoder["truncation_head"]["mel"][1] == pytest.approx(mel, rel=1e-4)
    # All channels reconstruct exactly, from either side, and low frequencies come first.
    for curve in ("truncation_head", "truncation_tail"):
        assert decoder[curve]["stft"][-1] == pytest.approx(0, abs=1e-3)
    assert decoder["truncation_head"]["stft"][0] < decoder["truncation_tail"]["stft"][0]
    assert decoder["noise"]["stft"] == sorted(decoder["noise"]["stft"])
    assert report["latents"]["profile"]["rank_correlation"] == -1


def test_pieces_are_the_clip(make_reader):
    codec = LinearCodec()
    whole = audit_codec(codec, make_reader(2), AuditSettings(decoded_clips=0)).report
    torch.manual_seed(0)
    clips = make_reader(2, piece_seconds=0.2)
    torch.manual_seed(0)
    pieces = audit_codec(codec, make_reader(2, piece_seconds=0.2), AuditSettings(decoded_clips=0)).report
    assert len(list(clips.pieces(0, RATE, 1, HOP))) == 3
    assert pieces["latents"]["num_frames"] == whole["latents"]["num_frames"] == 2 * 1000
    assert pieces["seconds"] == whole["seconds"] == 1.0
    assert pieces["decoder"] is None and pieces["residuals"] is None


def test_pieces_cover_each_sample_once(make_reader):
    clips = make_reader(1, seconds=0.50013, piece_seconds=0.2)
    joined = torch.cat([piece.waveform for piece in clips.pieces(0, RATE, 1, HOP)], dim=-1)
    (whole,) = ClipReader(clips.rows).pieces(0, RATE, 1, HOP)
    assert torch.equal(joined, whole.waveform)
    (short,) = ClipReader(clips.rows, max_seconds=0.1).pieces(0, RATE, 1, HOP)
    assert torch.equal(short.waveform, whole.waveform[:, :800])


def test_the_same_seed_gives_the_same_report(make_reader):
    clips = make_reader(4)
    settings = AuditSettings(max_clips=3, decoded_clips=2, seed=5)
    first, second = (audit_codec(LinearCodec(), clips, settings).report for _ in range(2))
    assert json.dumps(first) == json.dumps(second)
    other = audit_codec(LinearCodec(), clips, AuditSettings(max_clips=3, decoded_clips=2, seed=6)).report
    assert other["decoder"]["noise"]["stft"] != first["decoder"]["noise"]["stft"]


def test_residuals_show_the_replaced_channel_alone():
    codec = LinearCodec()
    latents = torch.zeros(1, HOP, 3000)
    latents[0, 1] = torch.randn(3000)
    result = channel_residuals(codec, latents, torch.zeros(HOP), torch.tensor([0.0, 1.0, 0.0, 0.0]))
    size = np.abs(result.maps).mean(axis=(1, 2))
    assert size[1] > 5 and size[[0, 2, 3]].max() < 1e-6
    assert result.maps[1].mean() > 0  # the channel adds to the sound
    assert len(shown_channels(1024)) == 64 and shown_channels(1024)[-1] == 1023


def test_channel_grid_and_keep_channels():
    assert channel_grid(1) == [1] and channel_grid(2) == [1, 2]
    grid = channel_grid(64)
    assert grid == sorted(set(grid)) and grid[0] == 1 and grid[-2:] == [63, 64]
    latents, fill = torch.ones(1, 3, 2), torch.tensor([5.0, 6.0, 7.0])
    assert keep_channels(latents, 1, fill)[0, :, 0].tolist() == [1, 6, 7]
    assert keep_channels(latents, 1, fill, from_tail=True)[0, :, 0].tolist() == [5, 6, 1]
    assert choose_clips(9, None, 0) == choose_clips(9, 20, 0) == list(range(9))
    assert len(choose_clips(9, 4, 0)) == 4 and choose_clips(9, 4, 0) != choose_clips(9, 4, 1)


def test_bad_files_are_named_and_counted(make_reader, tmp_path):
    clips = make_reader(2)
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    tiny = str(write_audio(tmp_path / "tiny.wav", torch.zeros(1, 3), RATE))
    rows = [{"audio": str(tmp_path / "broken.wav")}, *clips.rows, {"audio": tiny}]
    report = audit_codec(LinearCodec(), ClipReader(rows), AuditSettings(decoded_clips=2)).report
    assert report["num_clips"] == 2 and report["decoder"]["num_clips"] == 2
    broken, short = report["bad_files"]
    assert broken["name"].endswith("broken.wav") and "two latent frames" in short["reason"]
    with pytest.raises(AudioError, match="No clip can be read.*broken.wav"):
        audit_codec(LinearCodec(), ClipReader(rows[:1]), AuditSettings())
    with pytest.raises(AudioError, match="no clips"):
        audit_codec(LinearCodec(), ClipReader([]), AuditSettings())


def test_labels_reach_the_probe(make_reader):
    clips = make_reader(4)
    settings = AuditSettings(decoded_clips=0)
    report = audit_codec(LinearCodec(), clips, settings, labels=Labels(["a", "b", "a", ""])).report
    assert report["probe"]["num_clips"] == 3 and "one clip" in report["probe"]["reason"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_clips", 0), ("piece_seconds", math.inf), ("decoded_seconds", -1), ("decoded_clips", -1)],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        AuditSettings(**{name: value})


def _tiny(name, tiny_autoencoder):
    if name == "star":
        return tiny_autoencoder
    if name == "sigma":
        return tiny_autoencoder.with_bottleneck("sigma", sigma=0.5)
    if name == "lafa":
        sizes = {"encoder_hidden_size": 8, "decoder_hidden_size": 8, "channel_patch": 2}
        return AutoencoderLafa.from_vae(tiny_autoencoder, encoder_layers=1, decoder_layers=1, **sizes)
    if name == "oobleck":
        return diffusers.AutoencoderOobleck(
            encoder_hidden_size=6,
            downsampling_ratios=[2, 4],
            channel_multiples=[1, 2],
            decoder_channels=4,
            decoder_input_channels=3,
            sampling_rate=RATE,
        )
    if name == "same":
        return diffusers.AutoencoderSAME(
            patch_size=4,
            encoder_channels=16,
            encoder_c_mults=[1],
            encoder_strides=[2],
            encoder_transformer_depths=[1],
            latent_dim=3,
            dim_heads=8,
            sampling_rate=RATE,
        )
    if name == "longcat":
        return diffusers.LongCatAudioDiTVae(
            channels=4,
            c_mults=[1, 2],
            strides=[2, 2],
            latent_dim=3,
            encoder_latent_dim=6,
            in_shortcut="none",
            out_shortcut="none",
            downsampling_ratio=4,
            sample_rate=RATE,
        )
    if name == "kvae":
        return diffusers.AutoencoderKLKVAEAudio(
            encoder_dim=4,
            encoder_rates=[2, 3],
            latent_dim=16,
            codebook_dim=3,
            decoder_dim=8,
            decoder_rates=[3, 2],
            sample_rate=RATE,
            attn_num_heads=1,
        )
    if name == "minimax":
        return diffusers.AutoencoderKLMiniMaxH3Audio(
            encoder_dim=4,
            encoder_rates=(2, 2),
            latent_dim=16,
            latent_channels=4,
            num_attention_heads=2,
            decoder_dim=16,
            decoder_rates=(2, 2),
            decoder_kernel_sizes=(4, 4),
            resblock_kernel_sizes=(3,),
            resblock_dilation_sizes=((1,),),
            sampling_rate=RATE,
        )
    if name == "dac":
        return DacModel(
            DacConfig(
                encoder_hidden_size=2,
                decoder_hidden_size=8,
                downsampling_ratios=[2, 4],
                n_codebooks=2,
                codebook_size=16,
                codebook_dim=2,
                sampling_rate=RATE,
            )
        )
    return EncodecModel(
        EncodecConfig(
            hidden_size=4,
            num_filters=2,
            upsampling_ratios=[4, 2],
            num_lstm_layers=1,
            codebook_size=16,
            sampling_rate=RATE,
            target_bandwidths=[8.0],
        )
    )


KINDS = {
    "star": "KL",
    "sigma": "capacity",
    "lafa": "variance",
    "oobleck": "KL",
    "same": "variance",
    "longcat": "KL",
    "kvae": "KL",
    "minimax": "KL",
    "dac": "variance",
    "encodec": "variance",
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_family_from_a_folder(name, channels, tiny_autoencoder, make_reader, tmp_path):
    _tiny(name, tiny_autoencoder).eval().save_pretrained(tmp_path / "vae")
    codec = load_codec(inspect_codec(tmp_path / "vae"))
    clips = make_reader(2, seconds=0.3, channels=channels, rate=16000)
    report = audit_codec(codec, clips, AuditSettings(decoded_clips=1)).report
    latents = report["latents"]
    assert latents["profile"]["kind"] == KINDS[name]
    assert report["audio_channels"] == codec.audio_channels
    assert len(latents["std_per_channel"]) == latents["channels"] == codec.latent_channels
    assert report["decoder"]["num_clips"] == 1 and report["seconds"] == pytest.approx(0.6)
    assert len(report["residuals"]["mean_absolute_decibels"]) == codec.latent_channels
    write_json(report, tmp_path / "report.json")  # refuses what JSON does not have


@torch.no_grad()
def test_longcats_latents_are_its_posteriors_means(tiny_autoencoder):
    vae = _tiny("longcat", tiny_autoencoder).eval()
    codec, audio = as_codec(vae), torch.randn(1, 1, 400)
    moments = codec.encode(audio)
    torch.testing.assert_close(
        moments.mean / vae.config.scale, vae.encode(audio, sample_posterior=False).latents
    )
    torch.testing.assert_close(codec.decode(moments.mean), vae(audio).sample)
    assert (moments.std > 0).all()


@torch.no_grad()
def test_dac_and_encodec_without_their_quantizers(tiny_autoencoder):
    for name in ("dac", "encodec"):
        model = _tiny(name, tiny_autoencoder).eval()
        codec, audio = as_codec(model), 0.1 * torch.randn(1, 1, 800)
        latents = codec.encode(audio).mean
        assert latents.shape == (1, codec.latent_channels, 100)
        torch.testing.assert_close(latents, model.encoder(audio))
        torch.testing.assert_close(codec.decode(latents), model.decoder(latents))


def test_an_encodec_that_normalizes_is_refused(tiny_autoencoder):
    model = _tiny("encodec", tiny_autoencoder)
    model.config.normalize = True
    with pytest.raises(ValueError, match="normalizes"):
        as_codec(model)


def test_the_noise_of_a_decoder_is_the_same_at_every_call(tiny_autoencoder):
    vae = tiny_autoencoder.with_bottleneck("soft_normalization", latent_noise=0.3).eval()
    codec, latents = as_codec(vae), torch.randn(1, 4, 50)
    assert codec.noise_std == pytest.approx(0.3)
    assert torch.equal(codec.decode(latents), codec.decode(latents))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "no autoencoder"),
        ({"_class_name": "AutoencoderKL"}, "no audio autoencoder"),
        ({"_class_name": "AutoencoderKLLTX2Audio"}, "not an autoencoder of waveforms"),
        ({"architectures": ["BertModel"]}, "not an autoencoder of waveforms"),
    ],
)
def test_folders_that_hold_something_else(config, message, tmp_path):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        inspect_codec(tmp_path)
