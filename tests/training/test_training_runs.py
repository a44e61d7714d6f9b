"""The scripts end to end on tiny models: losses, resuming, stopping, latents, and a pipeline at the end."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

from star_hf import AutoencoderStar, StarGenPipeline
from star_hf.data import LatentDataset, open_latents, row_captions


def weights(run):
    return load_file(run / "export" / "diffusion_pytorch_model.safetensors")


def reset_accelerate():
    """Accelerate keeps the options of a process's first run."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def assert_equal_weights(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_resumed_run_ends_with_the_same_weights(autoencoder_options, tmp_path):
    import train_autoencoder

    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train_autoencoder.main(autoencoder_options("--output_dir", str(whole)))
    shutil.copytree(whole, parted)
    # what a kill while step 4 was being saved leaves behind
    shutil.rmtree(parted / "export")
    (parted / "checkpoints" / "step_00000004").rename(parted / "checkpoints" / ".incomplete-step_00000004")
    train_autoencoder.main(autoencoder_options("--output_dir", str(parted)))
    assert "continuing from" in (parted / "train.log").read_text()
    assert_equal_weights(weights(whole), weights(parted))
    assert not list((parted / "checkpoints").glob(".*"))


def test_a_checkpoint_of_another_model_is_refused(autoencoder_options, capsys):
    import train_autoencoder

    train_autoencoder.main(autoencoder_options())
    with pytest.raises(SystemExit):
        train_autoencoder.main(autoencoder_options("--model.encoder_hidden_size", "8", "--max_steps", "6"))
    assert "step_00000004' is of another model" in capsys.readouterr().err


def test_the_log_names_the_losses_as_their_weights(autoencoder_options, tmp_path):
    import train_autoencoder

    train_autoencoder.main(autoencoder_options("--report_to", "[tensorboard]"))
    run = tmp_path / "autoencoder"
    assert list(run.rglob("events.out.tfevents.*"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line]
    assert [line["step"] for line in logged] == [2, 4]
    for line in logged:
        total = line["loss/stft"] + line["loss/waveform"] + line["loss/kl"]
        assert line["loss"] == pytest.approx(total, rel=1e-5)
        assert line["audio_seconds_per_second"] > 0
        assert 0 <= line["data_wait"] <= 1
        assert line["kbit/s"] == pytest.approx(line["nats_per_frame"] / 0.6931472 * 250 / 1000, rel=1e-4)
    assert [line["step"] for line in lines if "validation/stft_distance" in line] == [2, 4]
    assert (run / "arguments.yaml").is_file()


def test_a_stream_and_several_workers_train(autoencoder_options, tmp_path):
    import train_autoencoder

    options = ["--data.streaming", "true", "--data.validation_fraction", "0", "--data.num_workers", "2"]
    train_autoencoder.main(autoencoder_options(*options))
    assert "streaming" in (tmp_path / "autoencoder" / "train.log").read_text()
    assert (tmp_path / "autoencoder" / "export" / "config.json").is_file()


def test_gradients_are_accumulated_over_batches(autoencoder_options, tmp_path):
    import train_autoencoder

    # two batches of 2 hold the clips of one batch of 4, and this loss is a mean over clips
    common = ["--max_steps", "1", "--log_every", "1", "--losses", "{waveform: 1.0}"]
    common += ["--posterior_noise.start_step", "100", "--optimizer.max_grad_norm", "1e9"]
    parts = ["--output_dir", str(tmp_path / "parts"), "--gradient_accumulation", "2"]
    whole = ["--output_dir", str(tmp_path / "whole"), "--data.batch_size", "4"]
    norms = []
    for options in (parts, whole):
        train_autoencoder.main(autoencoder_options(*common, *options))
        reset_accelerate()
        metrics = (Path(options[1]) / "metrics.jsonl").read_text().splitlines()
        norms.append(json.loads(metrics[0])["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    first, second = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-5)


def test_ctrl_c_saves_a_complete_checkpoint(autoencoder_options, tmp_path, monkeypatch):
    import train_autoencoder
    from trainer import Trainer

    monkeypatch.setattr(Trainer, "_log_window", lambda self: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit) as stopped:
        train_autoencoder.main(autoencoder_options("--log_every", "3", "--save_every", "100"))
    assert stopped.value.code == 130
    checkpoints = list((tmp_path / "autoencoder" / "checkpoints").iterdir())
    assert [path.name for path in checkpoints] == ["step_00000003"]
    assert json.loads((checkpoints[0] / "run_state.json").read_text())["step"] == 3


def test_phase_two_starts_from_the_run_of_phase_one(autoencoder_options, tmp_path):
    import train_autoencoder

    train_autoencoder.main(autoencoder_options())
    first, second = tmp_path / "autoencoder", tmp_path / "second"
    options = ["--output_dir", str(second), "--init_from", str(first), "--model", "null"]
    train_autoencoder.main(autoencoder_options(*options, "--optimizer.learning_rate", "0"))
    assert_equal_weights(weights(first), weights(second))
    assert str(tmp_path) not in (second / "export" / "config.json").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--losses.sfft", "1"], "losses has no 'sfft'"),
        (["--model.encoder_size", "8"], "unknown key 'model.encoder_size'"),
        (["--stft.fft", "8"], "unknown key 'stft.fft'"),
        (["--report_to", "[wandb]"], "tracker 'wandb' is not installed"),
        (["--report_to", "[nowhere]"], "tracker 'nowhere' is unknown"),
        (["--max_steps", "null"], "max_steps or max_minutes"),
        (["--regularizer.name", "none"], "regularizer.name must be isotropic or star"),
        (["--data.source", "./nowhere"], "'./nowhere' does not exist"),
    ],
)
def test_mistakes_end_the_script_with_one_line(autoencoder_options, capsys, options, message):
    import train_autoencoder

    with pytest.raises(SystemExit) as stopped:
        train_autoencoder.main(autoencoder_options(*options))
    assert stopped.value.code == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_too_many_bad_files_stop_the_run_with_the_list(autoencoder_options, recordings, tmp_path, capsys):
    import train_autoencoder

    broken = tmp_path / "broken"
    shutil.copytree(recordings, broken)
    for index in (3, 6):
        (broken / f"{index}.wav").write_text("not audio")
    with pytest.raises(SystemExit):
        options = ["--data.source", str(broken), "--data.validation_fraction", "0", "--max_steps", "40"]
        train_autoencoder.main(autoencoder_options(*options))
    error = capsys.readouterr().err
    assert "files cannot be read, more than the 5.0% allowed" in error
    assert "3.wav" in error or "6.wav" in error


def test_one_bad_file_within_the_allowed_share_is_named_once(autoencoder_options, recordings, tmp_path):
    import train_autoencoder

    broken = tmp_path / "broken"
    shutil.copytree(recordings, broken)
    (broken / "3.wav").write_text("not audio")
    options = ["--data.source", str(broken), "--data.validation_fraction", "0", "--max_steps", "12"]
    train_autoencoder.main(autoencoder_options(*options, "--data.max_bad_share", "0.2"))
    log = (tmp_path / "autoencoder" / "train.log").read_text()
    assert log.count("skipping") == 1 and "3.wav" in log


@pytest.fixture(scope="module")
def exported_autoencoder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vae")
    AutoencoderStar(
        encoder_hidden_size=4,
        decoder_channels=4,
        downsampling_ratios=[4, 8],
        channel_multiples=[1, 2],
        decoder_input_channels=8,
        sampling_rate=8000,
        context_type="none",
    ).save_pretrained(folder)
    return folder


def encode_options(vae, recordings, output, *more):
    options = {"vae": vae, "source": recordings, "output_dir": output, "keep_columns": "[label, group]"}
    return [text for key, value in options.items() for text in (f"--{key}", str(value))] + list(more)


def test_encoded_latents_are_the_posteriors_and_their_statistics(exported_autoencoder, recordings, tmp_path):
    import encode_latents

    vae_folder = tmp_path / "vae"
    shutil.copytree(exported_autoencoder, vae_folder)
    options = encode_options(vae_folder, recordings, tmp_path / "latents", "--write_statistics_to_vae")
    encode_latents.main(options)
    rows, info = open_latents(tmp_path / "latents")
    vae = AutoencoderStar.from_pretrained(vae_folder)
    samples, _ = soundfile.read(recordings / "0.wav", dtype="float32")
    with torch.no_grad():
        posterior = vae.encode(torch.from_numpy(samples).repeat(1, 2, 1)).latent_dist
    stored = LatentDataset(rows, info, row_captions(rows))[0]
    assert stored["latents"].shape == (posterior.mean.shape[2], 8)
    assert (len(rows), rows[0]["label"], rows[0]["text"]) == (9, "low", "a low tone")
    assert info.frame_rate == 8000 / 32
    assert vae.config.latents_mean == info.latents_mean
    assert vae.config.latents_std == info.latents_std

    means, stds = [], []
    for row in rows:
        for values, name in ((means, "mean"), (stds, "std")):
            values.append(torch.frombuffer(bytearray(row[name]), dtype=torch.float16).reshape(8, -1).double())
    mean, std = torch.cat(means, 1), torch.cat(stds, 1)
    torch.testing.assert_close(means[0].float(), posterior.mean[0], rtol=1e-3, atol=1e-4)
    expected = (mean.var(dim=1, unbiased=False) + std.square().mean(dim=1)).sqrt()
    torch.testing.assert_close(torch.tensor(info.latents_std).double(), expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        torch.tensor(info.latents_mean).double(), mean.mean(dim=1), rtol=1e-3, atol=1e-4
    )


def test_shifted_versions_are_added_and_an_existing_folder_is_kept(
    exported_autoencoder, recordings, tmp_path, capsys
):
    import encode_latents

    options = encode_options(exported_autoencoder, recordings, tmp_path / "latents", "--num_shifts", "2")
    encode_latents.main(options)
    rows, _ = open_latents(tmp_path / "latents")
    assert rows["version"][:6] == [0, 1, 2, 0, 1, 2]
    assert rows[0]["num_frames"] == rows[1]["num_frames"]
    assert rows[0]["mean"] != rows[1]["mean"] != rows[2]["mean"]
    with pytest.raises(SystemExit):
        encode_latents.main(options)
    assert "--overwrite true" in capsys.readouterr().err


@pytest.mark.parametrize("offset", [0, 1, 30, 99])
def test_a_circular_shift_moves_every_sample_and_fades_the_seam(offset):
    from encode_latents import shift_circularly

    clip = 1.0 + torch.arange(100.0).repeat(2, 1)
    shifted = shift_circularly(clip, offset, seam=5)
    changed = (shifted != clip.roll(offset, dims=-1)).any(dim=0).nonzero().flatten().tolist()
    seam = min(5, offset, 100 - offset)
    assert set(changed) <= set(range(offset - seam, offset + seam))
    assert bool((shifted.abs() <= clip.roll(offset, dims=-1).abs()).all())


GENERATOR = """
max_steps: 3
log_every: 1
validate_every: 2
save_every: 2
threads: 1
report_to: []
text_config:
  hidden_size: 32
  intermediate_size: 32
  num_hidden_layers: 1
  num_attention_heads: 2
  num_key_value_heads: 1
  head_dim: 16
model: {default_audio_length_in_s: 0.3, time_embedding_dim: 8}
vocab_size: 300
data: {share_captions_by: label, captions: {low: [a deep hum]}, batch_size: 4, validation_key: group}
export_dtype: float16
"""


def generator_options(tmp_path, vae, latents, *more):
    recipe = tmp_path / "generator.yaml"
    recipe.write_text(GENERATOR)
    options = [
        "--config",
        recipe,
        "--output_dir",
        tmp_path / "generator",
        "--vae",
        vae,
        "--data.source",
        latents,
    ]
    return [*map(str, options), *more]


def test_latents_of_another_autoencoder_are_refused(exported_autoencoder, recordings, tmp_path, capsys):
    import encode_latents
    import train_generator

    encode_latents.main(encode_options(exported_autoencoder, recordings, tmp_path / "latents"))
    other = AutoencoderStar.from_pretrained(exported_autoencoder)
    other.encoder.conv1.bias.data += 1e-3
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(SystemExit):
        train_generator.main(generator_options(tmp_path, tmp_path / "other", tmp_path / "latents"))
    assert "were made by another autoencoder" in capsys.readouterr().err


@pytest.mark.slow
def test_from_recordings_to_a_pipeline(autoencoder_options, recordings, tmp_path):
    root = Path(__file__).parents[2]

    def run(script, options):
        path = os.pathsep.join([str(root / "src"), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, str(root / "training" / script), *options]
        subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})

    latents = tmp_path / "latents"
    run("train_autoencoder.py", autoencoder_options("--data.cache_audio", "--mixed_precision", "bf16"))
    run("encode_latents.py", encode_options(tmp_path / "autoencoder", recordings, latents))
    run("train_generator.py", generator_options(tmp_path, tmp_path / "autoencoder", latents))

    export = tmp_path / "generator" / "export"
    stored = load_file(export / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert str(tmp_path) not in "".join(path.read_text() for path in export.rglob("*.json"))
    pipeline = StarGenPipeline.from_pretrained(export)
    assert pipeline.model.dtype == pipeline.vae.dtype == torch.float32
    _, info = open_latents(latents)
    assert pipeline.model.config.latents_std == info.latents_std
    generator = torch.Generator().manual_seed(0)
    audio = pipeline("a low tone", num_inference_steps=2, generator=generator).audios
    assert audio.shape == (1, 2, 2400)
    assert bool(torch.isfinite(audio).all()) and float(audio.abs().max()) > 0
