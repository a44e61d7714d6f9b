"""`star-hf info`: what it says is what the models are."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from star_hf import AutoencoderStar, StarGenModel


def _info(run_cli, *arguments):
    result = run_cli("info", *arguments, "--json")
    assert result.code == 0, result.stderr
    return json.loads(result.stdout)


def _parameters(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_pipeline(run_cli, tiny_pipeline_folder):
    info = _info(run_cli, tiny_pipeline_folder)
    autoencoder = AutoencoderStar.from_pretrained(tiny_pipeline_folder / "vae")
    generator = StarGenModel.from_pretrained(tiny_pipeline_folder / "model")
    assert info["class"] == "StarGenPipeline"
    components = {component["name"]: component for component in info["components"]}
    assert set(components) == {"vae", "model", "tokenizer", "scheduler"}
    assert components["vae"]["parameters"] == _parameters(autoencoder)
    assert components["model"]["parameters"] == _parameters(generator)
    assert components["model"]["dtypes"] == ["F32"]
    assert info["parameters"] == _parameters(autoencoder) + _parameters(generator)
    weights = tiny_pipeline_folder.rglob("*.safetensors")
    assert info["size_in_bytes"] == sum(file.stat().st_size for file in weights)
    assert info["hop_length"] == autoencoder.hop_length == 16
    assert (info["sampling_rate"], info["frame_rate"], info["latent_channels"]) == (8000, 500.0, 4)
    assert (info["audio_channels"], info["context_type"]) == (2, "none")


def test_generator_alone(run_cli, tiny_pipeline_folder):
    info = _info(run_cli, tiny_pipeline_folder / "model")
    assert (info["class"], info["sampling_rate"], info["frame_rate"]) == ("StarGenModel", 8000, 500.0)
    assert info["latent_channels"] == 4 and info["hop_length"] is None


def test_filter_bank_context_and_half_precision(run_cli, tmp_path):
    import torch

    autoencoder = AutoencoderStar(
        encoder_hidden_size=4,
        downsampling_ratios=[2, 2],
        channel_multiples=[1, 2],
        decoder_channels=4,
        decoder_input_channels=4,
        filterbank_bands=8,
        context_type="transformer",
        num_context_layers=1,
        context_hidden_size=32,
    )
    autoencoder.to(torch.float16).save_pretrained(tmp_path)
    info = _info(run_cli, tmp_path)
    assert info["hop_length"] == autoencoder.hop_length == 32
    assert (info["context_type"], info["num_context_layers"]) == ("transformer", 1)
    assert info["components"][0]["dtypes"] == ["F16"]
    assert info["parameters"] == sum(tensor.numel() for tensor in autoencoder.state_dict().values())


def test_bottleneck_and_what_shaped_the_latents(run_cli, tiny_autoencoder, tiny_pipeline_folder, tmp_path):
    record = {"name": "sigma_vae", "sigma": 0.5, "losses": {"stft": 1.0, "kl": 0.1}}
    tiny_autoencoder.with_bottleneck(
        "sigma", sigma=0.5, latent_noise=0.001, regularizer=record
    ).save_pretrained(tmp_path)
    info = _info(run_cli, tmp_path)
    assert (info["bottleneck"], info["sigma"], info["latent_noise"]) == ("sigma", 0.5, 0.001)
    assert info["regularizer"] == record
    lines = dict(line.split(maxsplit=1) for line in run_cli("info", tmp_path).stdout.splitlines())
    assert lines["bottleneck"] == "sigma 0.5, decoded with noise of 0.001 std"
    assert lines["regularizer"] == "sigma_vae, losses (kl 0.1, stft 1.0), sigma 0.5"
    assert _info(run_cli, tiny_pipeline_folder)["bottleneck"] == "gaussian"
    assert "bottleneck       gaussian\n" in run_cli("info", tiny_pipeline_folder).stdout
    assert _info(run_cli, tiny_pipeline_folder / "model")["bottleneck"] is None


def test_shards_count_once_and_variants_not_at_all(run_cli, tiny_generator, tmp_path):
    tiny_generator.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = list(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    (tmp_path / "model.fp16.safetensors").write_bytes(shards[0].read_bytes())
    assert _info(run_cli, tmp_path)["parameters"] == _parameters(tiny_generator)


def test_text_for_people(run_cli, tiny_pipeline_folder):
    result = run_cli("info", tiny_pipeline_folder)
    assert result.code == 0
    for line in (
        "class            StarGenPipeline",
        "sampling rate    8000 Hz",
        "frame rate       500.00 frames/s",
    ):
        assert line in result.stdout


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no model"),
        ({"config.json": "{"}, "config.json: is not valid JSON"),
        ({"config.json": "[]"}, "config.json: must hold a JSON object"),
        ({"config.json": "{}", "model.safetensors": "junk"}, "model.safetensors: is not a safetensors file"),
    ],
)
def test_broken_folders(run_cli, tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    result = run_cli("info", tmp_path)
    assert result.code == 1 and message in result.stderr and not result.stdout


def test_reads_headers_without_torch(tiny_pipeline_folder):
    code = (
        "import sys\nfrom pathlib import Path\nfrom star_hf.cli.info import describe\n"
        "describe(Path(sys.argv[1]))\nprint('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tiny_pipeline_folder)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"
