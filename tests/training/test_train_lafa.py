"""train_lafa.py end to end on tiny models: masks and noise of the samples, resuming, export, use as a vae."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file

from star_hf import AutoencoderLafa
from star_hf.data import open_latents

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def lafa_options(exported_autoencoder, recordings, tmp_path):
    """Command line of a short LAFA run; later options win."""

    def options(*more: str) -> list[str]:
        recipe = tmp_path / "lafa.yaml"
        recipe.write_text(f"""
output_dir: {tmp_path / "lafa"}
vae: {exported_autoencoder}
max_steps: 4
log_every: 2
validate_every: 2
save_every: 2
threads: 1
report_to: []
model: {{encoder_hidden_size: 8, encoder_layers: 1, decoder_hidden_size: 8, decoder_layers: 1}}
data:
  source: {recordings}
  batch_size: 3
  validation_fraction: 0.2
  validation_key: group
  validation_seconds: 0.3
  crops: {{num_samples: 2048, gain_db: 3}}
statistics_crops: 4
optimizer: {{learning_rate: 1e-3, warmup_steps: 1}}
""")
        return ["--config", str(recipe), *more]

    return options


@pytest.fixture
def trained(lafa_options, tmp_path):
    import train_lafa

    train_lafa.main(lafa_options())
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return tmp_path / "lafa"


@pytest.fixture
def make_task(lafa_options):
    def make(*more: str):
        from engine.arguments import parse_arguments
        from tasks.lafa_task import LafaArguments, LafaTask

        PartialState()
        torch.manual_seed(0)
        arguments = parse_arguments(LafaArguments, lafa_options(*more))
        return LafaTask(arguments, SimpleNamespace(say=lambda text: None))

    return make


def test_a_resumed_run_ends_with_the_same_weights(trained, lafa_options, tmp_path):
    import train_lafa

    parted = tmp_path / "parted"
    shutil.copytree(trained, parted)
    shutil.rmtree(parted / "export")
    (parted / "checkpoints" / "step_00000004").rename(parted / "checkpoints" / ".incomplete-step_00000004")
    train_lafa.main(lafa_options("--output_dir", str(parted)))
    assert "continuing from" in (parted / "train.log").read_text()
    whole, resumed = (load_file(run / "export" / WEIGHTS) for run in (trained, parted))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    configs = [(run / "export" / "config.json").read_text() for run in (trained, parted)]
    assert configs[0] == configs[1]


def test_the_inner_model_stays_and_the_rest_is_trained(trained, exported_autoencoder, lafa_options, tmp_path):
    import train_lafa

    exported = load_file(trained / "export" / WEIGHTS)
    inner = load_file(exported_autoencoder / WEIGHTS)
    assert all(torch.equal(exported[f"inner.vae.{name}"], tensor) for name, tensor in inner.items())
    start = tmp_path / "start"
    train_lafa.main(lafa_options("--output_dir", str(start), "--optimizer.learning_rate", "0"))
    untrained = load_file(start / "export" / WEIGHTS)
    unchanged = {
        name
        for name, tensor in exported.items()
        if not name.startswith("inner.") and torch.equal(tensor, untrained[name])
    }
    assert not unchanged


def test_the_log_and_the_export_tell_what_was_measured(trained):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line]
    assert [line["step"] for line in logged] == [2, 4]
    assert all(line["loss"] == line["loss/flow"] and 0 <= line["masked"] <= 1 for line in logged)
    # 0.3 or 0.4 s of recording in crops of 0.256 s
    assert all(line["padding"] == 0 for line in logged)
    validated = [line for line in lines if "validation/flow" in line]
    assert [line["step"] for line in validated] == [2, 4]
    names = {"flow", "latent_mse", "stft_distance", "mel_distance", "vae_stft_distance", "vae_mel_distance"}
    assert {f"validation/{name}" for name in names} <= set(validated[0])
    assert validated[0]["validation/vae_stft_distance"] == validated[1]["validation/vae_stft_distance"]
    config = AutoencoderLafa.from_pretrained(trained / "export").config
    for name in ("latents_mean", "latents_std", "inner_latents_mean", "inner_latents_std"):
        assert len(config[name]) == 8
    assert (trained / "best" / "config.json").is_file()


def test_it_serves_as_the_vae_of_the_other_scripts(trained, encode_options, generator_options, tmp_path):
    import encode_latents
    import train_generator
    from tasks.vae_loading import load_vae

    vae = load_vae(str(trained))
    assert isinstance(vae, AutoencoderLafa) and not vae.training
    encode_latents.main(encode_options("--vae", str(trained)))
    latents, info = open_latents(tmp_path / "latents")
    assert info.vae_class == "AutoencoderLafa" and len(latents) == 9
    assert info.posterior == "deterministic" and not any(any(row["std"]) for row in latents)
    train_generator.main(generator_options("--vae", str(trained), "--max_steps", "2"))
    assert (tmp_path / "generator" / "export" / "vae" / "config.json").is_file()
    assert isinstance(load_vae(str(tmp_path / "generator")), AutoencoderLafa)


def test_it_is_measured_beside_the_vae_it_was_made_of(trained, exported_autoencoder, recordings, tmp_path):
    import evaluate_autoencoder

    vaes = ["--vaes.lafa", str(trained), "--vaes.star", str(exported_autoencoder)]
    data = ["--data.source", str(recordings), "--data.fold_column", "group"]
    data += ["--judge", "false", "--device", "cpu"]
    evaluate_autoencoder.main([*vaes, *data, "--output_dir", str(tmp_path / "measured")])
    measured = json.loads((tmp_path / "measured" / "reconstruction.json").read_text())["autoencoders"]
    assert measured["lafa"]["class"] == "AutoencoderLafa"
    assert measured["lafa"]["latent_channels"] == measured["star"]["latent_channels"] == 8
    assert measured["lafa"]["latents"] is None and measured["star"]["latents"] is not None
    assert measured["lafa"]["stft_distance"]["mean"] != measured["star"]["stft_distance"]["mean"]


def test_a_sample_has_its_own_mask_noise_and_time(make_task):
    """The loss of a batch is the mean of its rows' own, whichever rows are beside them."""
    task = make_task()
    torch.nn.init.normal_(task.lafa.decoder.out_proj.weight)
    batch = next(iter(task.batches(0, 0, 1)))
    alone = []
    for row in range(3):
        part = {name: batch[name][row : row + 1] for name in ("waveform", "noise_seed")}
        alone.append(task.compute(task.modules, part, 0).losses["flow"])
    torch.testing.assert_close(task.compute(task.modules, batch, 0).losses["flow"], torch.stack(alone).mean())
    assert len({value.item() for value in alone}) == 3


def test_zeros_after_a_clip_are_not_counted(make_task):
    from tasks.lafa_task import real_frames

    waveform = torch.zeros(4, 2, 100)
    waveform[0, 1, 99] = waveform[1, 0, 32] = waveform[2, 0, 31] = 0.1
    expected = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)
    assert torch.equal(real_frames(waveform, 32), expected)

    task = make_task()
    batch = next(iter(task.batches(0, 0, 1)))
    batch["waveform"][0, :, 700:] = 0.0
    batch["waveform"][1] = 0.0
    assert task.weight(batch) == 22 + 0 + 64
    output = task.compute(task.modules, batch, 0)
    assert torch.isfinite(output.losses["flow"])
    assert float(output.metrics["padding"]) == pytest.approx(1 - 86 / 192)


def test_training_learns_the_latents(make_task):
    task = make_task("--masking.mask_ratio", "0", "--masking.all_probability", "0", "--data.batch_size", "6")
    batch = next(iter(task.batches(0, 0, 1)))
    parameters = list(task.modules["lafa"].parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    losses = []
    for _ in range(60):
        loss = task.compute(task.modules, batch, 0).losses["flow"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_the_regression_is_trained_by_the_same_script(lafa_options, tmp_path):
    import train_lafa

    train_lafa.main(lafa_options("--model.decoder_objective", "mse", "--report_every", "4"))
    export = AutoencoderLafa.from_pretrained(tmp_path / "lafa" / "export")
    assert export.config.decoder_objective == "mse"
    report = {path.name for path in (tmp_path / "lafa" / "reports" / "step_00000004").iterdir()}
    parts = ("original", "frozen_vae", "reconstruction")
    assert {f"clip_0_{part}.wav" for part in parts} | {"reconstructions.png"} <= report


def test_a_dry_run_writes_nothing(lafa_options, tmp_path, capsys):
    import train_lafa

    train_lafa.main(lafa_options("--dry_run"))
    assert "a step of lafa" in capsys.readouterr().out
    assert not (tmp_path / "lafa").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vae", ""], "vae is missing"),
        (["--model.encoder_size", "8"], "unknown key 'model.encoder_size'"),
        (["--model.latents_mean", "[0]"], "unknown key 'model.latents_mean'"),
        (["--masking.mask_ratio", "2"], "masking: `mask_ratio` must be in"),
        (["--statistics_crops", "0"], "statistics_crops must be at least 1, got 0"),
        (["--model.channel_patch", "3"], "`channel_patch` must divide the 8 channels"),
    ],
)
def test_bad_options_are_one_line(lafa_options, capsys, options, message):
    import train_lafa

    with pytest.raises(SystemExit):
        train_lafa.main(lafa_options(*options))
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_lafa_cannot_be_put_around_lafa(trained, lafa_options, capsys):
    import train_lafa

    with pytest.raises(SystemExit):
        train_lafa.main(lafa_options("--vae", str(trained), "--output_dir", str(trained.parent / "second")))
    assert "_class_name 'AutoencoderLafa'" in capsys.readouterr().err
