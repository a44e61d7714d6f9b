"""`star-hf reconstruct` with tiny autoencoders."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import soundfile
import torch

from star_hf import AutoencoderLafa, AutoencoderStar, audio_info, rate_kbps, read_audio, write_audio


@pytest.fixture
def run_reconstruct(run_cli, tiny_pipeline_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, model=tiny_pipeline_folder):
        return run_cli("reconstruct", "--model", model, *arguments)

    return run


def test_writes_at_the_models_rate_and_measures(run_reconstruct, clip, tiny_pipeline_folder):
    result = run_reconstruct(clip, "-o", "again.flac", "--json")
    assert result.code == 0, result.stderr
    (facts,) = json.loads(result.stdout)["files"]
    info = audio_info("again.flac")
    assert (info.sampling_rate, info.channels, info.num_frames) == (8000, 2, 8000)

    waveform, _ = read_audio(clip, 8000, 2)
    autoencoder = AutoencoderStar.from_pretrained(tiny_pipeline_folder / "vae").eval()
    with torch.inference_mode():
        output = autoencoder(waveform[None])
    noise = (waveform - output.sample[0]).square().sum()
    rate = rate_kbps(output.latent_dist.mean, output.latent_dist.std, 500.0)
    assert facts["snr_db"] == pytest.approx(10 * math.log10(waveform.square().sum() / noise), abs=0.01)
    assert facts["rate_kbps"] == pytest.approx(float(rate), abs=0.01)
    assert facts["peak"] == pytest.approx(float(waveform.abs().max()), abs=1e-3)


def test_a_vae_folder_and_diffusers_own_autoencoder(run_reconstruct, clip, tiny_pipeline_folder, tmp_path):
    from diffusers import AutoencoderOobleck

    oobleck = AutoencoderOobleck(
        encoder_hidden_size=4,
        downsampling_ratios=[2, 4],
        channel_multiples=[1, 2],
        decoder_channels=4,
        decoder_input_channels=2,
        sampling_rate=16000,
    )
    oobleck.save_pretrained(tmp_path / "oobleck")
    for model, rate in ((tiny_pipeline_folder / "vae", 8000), (tmp_path / "oobleck", 16000)):
        result = run_reconstruct(clip, "-o", "again.wav", model=model)
        assert result.code == 0, result.stderr
        assert audio_info("again.wav").num_frames == rate
        assert result.stdout.startswith("again.wav  1.00 s  SNR ")


@pytest.mark.parametrize(
    "bottleneck", [{"bottleneck": "sigma", "sigma": 0.5}, {"bottleneck": "soft_normalization"}]
)
def test_posteriors_without_a_kl_have_no_rate(run_reconstruct, clip, tiny_autoencoder, tmp_path, bottleneck):
    tiny_autoencoder.with_bottleneck(**bottleneck).save_pretrained(tmp_path / "vae")
    result = run_reconstruct(clip, "-o", "again.wav", "--json", model=tmp_path / "vae")
    (facts,) = json.loads(result.stdout)["files"]
    assert facts["rate_kbps"] is None and facts["decoded_peak"] > 0
    assert "kbit/s" not in run_reconstruct(clip, "-o", "more.wav", model=tmp_path / "vae").stdout


def test_a_lafa_folder_is_an_autoencoder_too(run_reconstruct, clip, tiny_autoencoder, tmp_path):
    sizes = {"encoder_hidden_size": 8, "encoder_layers": 1, "channel_patch": 1}
    sizes |= {"decoder_hidden_size": 8, "decoder_layers": 1}
    AutoencoderLafa.from_vae(tiny_autoencoder, **sizes).save_pretrained(tmp_path / "lafa")
    result = run_reconstruct(clip, "-o", "again.wav", "--json", model=tmp_path / "lafa")
    assert result.code == 0, result.stderr
    assert json.loads(result.stdout)["files"][0]["rate_kbps"] is None
    assert audio_info("again.wav").num_frames == 8000


def test_weights_that_do_not_fit_are_named(run_reconstruct, clip, tiny_pipeline_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_pipeline_folder / "vae", tmp_path / "vae")
    file = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["surplus.weight"] = weights.pop(missing := sorted(weights)[0])
    save_file(weights, file, metadata={"format": "pt"})
    result = run_reconstruct(clip, "-o", "again.wav", model=tmp_path / "vae")
    assert result.code == 1 and not (tmp_path / "again.wav").exists()
    assert missing in result.stderr and "surplus.weight" in result.stderr


def test_long_audio_is_tiled_and_equal(run_reconstruct, tmp_path, tiny_pipeline_folder, monkeypatch):
    write_audio(tmp_path / "long.wav", 0.01 * torch.randn(2, 8000 * 25), 8000)
    tiled = []
    original = AutoencoderStar.enable_tiling
    monkeypatch.setattr(AutoencoderStar, "enable_tiling", lambda self: (tiled.append(self), original(self)))
    assert run_reconstruct("long.wav", "-o", "again.wav").code == 0
    assert tiled
    autoencoder = AutoencoderStar.from_pretrained(tiny_pipeline_folder / "vae").eval()
    with torch.inference_mode():
        expected = autoencoder(read_audio("long.wav")[0][None]).sample[0]
    assert (read_audio("again.wav")[0] - expected).abs().max() <= 1.01 / 32768


def test_mono_goes_through_a_stereo_model(run_reconstruct, tmp_path):
    write_audio(tmp_path / "mono.wav", 0.1 * torch.randn(1, 1000), 8000)
    assert run_reconstruct("mono.wav", "-o", "again.wav").code == 0
    assert audio_info("again.wav").channels == 2


def test_silence_is_done_with_a_warning(run_reconstruct, tmp_path):
    write_audio(tmp_path / "silent.wav", torch.zeros(2, 1000), 8000)
    result = run_reconstruct("silent.wav", "-o", "again.wav", "--json")
    assert result.code == 0 and "warning: silent.wav is silent" in result.stderr
    assert json.loads(result.stdout)["files"][0]["snr_db"] is None
    assert audio_info("again.wav").num_frames == 1000


def test_bad_files_are_named_and_the_others_are_done(run_reconstruct, clip, tmp_path):
    (tmp_path / "notes.wav").write_text("not audio" * 100)
    soundfile.write(tmp_path / "surround.wav", np.zeros((100, 7)), 8000)
    result = run_reconstruct("notes.wav", clip, "surround.wav", "missing.wav", "-o", "again/", "--json")
    assert result.code == 1
    document = json.loads(result.stdout)
    assert [file["path"] for file in document["files"]] == ["again/clip.wav"]
    assert [file.name for file in (tmp_path / "again").iterdir()] == ["clip.wav"]
    messages = "\n".join(document["errors"])
    for text in ("notes.wav: is not audio", "surround.wav: has 7 channels", "missing.wav: does not exist"):
        assert text in messages and text in result.stderr


def test_only_bad_files_load_no_model(run_reconstruct, tmp_path, monkeypatch):
    def must_not_run(*arguments):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("star_hf.cli.reconstruct.load_autoencoder", must_not_run)
    (tmp_path / "empty.wav").write_bytes(b"")
    result = run_reconstruct("empty.wav", "-o", "again.wav")
    assert (result.code, result.stderr) == (1, "error: empty.wav: is empty (0 bytes).\n")
    result = run_reconstruct("empty.wav", "-o", "missing/again.wav")
    assert result.code == 1 and "missing does not exist" in result.stderr


def test_a_model_that_is_no_audio_autoencoder(run_reconstruct, clip, tiny_pipeline_folder, tmp_path):
    result = run_reconstruct(clip, "-o", "again.wav", model=tiny_pipeline_folder / "model")
    assert result.code == 1 and "holds StarGenModel, not an audio autoencoder" in result.stderr
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    result = run_reconstruct(clip, "-o", "again.wav", model=tmp_path / "broken")
    assert result.code == 1 and "config.json: is not valid JSON" in result.stderr
    assert not (tmp_path / "again.wav").exists()
