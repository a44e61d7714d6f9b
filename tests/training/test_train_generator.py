"""train_generator.py: from latents and from audio, whole, with LoRA or on a frozen backbone."""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from transformers import Qwen3Config, Qwen3Model

from star_hf import AutoencoderStar, StarGenPipeline
from star_hf.data import open_latents
from star_hf.generation import load_adapter_folder

SECONDS = [0.1, 0.4, 0.2, 0.3, 0.1, 0.25, 0.35, 0.15]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Eight stereo clips of noise, of different lengths, at the autoencoder's 8 kHz."""
    folder = tmp_path_factory.mktemp("clips")
    random = np.random.default_rng(0)
    rows = ["file_name,text,label"]
    for index, seconds in enumerate(SECONDS):
        samples = 0.3 * random.standard_normal((int(8000 * seconds) - index, 2)).clip(-3, 3)
        soundfile.write(folder / f"{index}.wav", samples, 8000, subtype="FLOAT")
        rows.append(f"{index}.wav,{'long' if seconds > 0.2 else 'short'} noise number {index},noise")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def quiet_autoencoder(exported_autoencoder, tmp_path_factory):
    """An autoencoder that is almost sure of its latents: sampling them adds next to nothing."""
    vae = AutoencoderStar.from_pretrained(exported_autoencoder)
    final = vae.encoder.conv2
    final.bias.data[vae.config.decoder_input_channels :] = -20.0
    weight = final.weight if not hasattr(final, "weight_g") else final.weight_g
    weight.data[vae.config.decoder_input_channels :] *= 1e-3
    folder = tmp_path_factory.mktemp("quiet")
    vae.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def latents(exported_autoencoder, clips, tmp_path_factory):
    return encode(exported_autoencoder, clips, tmp_path_factory.mktemp("latents") / "latents")


def encode(vae, source, folder):
    import encode_latents

    options = {"vae": vae, "source": source, "output_dir": folder, "keep_columns": "[label]"}
    encode_latents.main([text for key, value in options.items() for text in (f"--{key}", str(value))])
    return folder


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory):
    """A tiny Qwen3 with a tokenizer, as a pretrained backbone has."""
    from star_hf.generation.tokenizer import train_tokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("qwen3")
    tokenizer = train_tokenizer(["noise number 0", "long", "short"], 280)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
    )
    Qwen3Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def options(generator_options, latents):
    """Command line of a three-step run on the latents of the clips; later options win."""

    def make(*more):
        own = ["--data.source", str(latents), "--data.share_captions_by", "null", "--data.captions", "null"]
        return generator_options(*own, "--data.validation_key", "null", *more)

    return make


@pytest.fixture
def make_task(options):
    def make(*more):
        import train_generator
        from engine.arguments import parse_arguments

        torch.manual_seed(0)
        arguments = parse_arguments(train_generator.GeneratorArguments, options(*more))
        arguments.check()
        return train_generator.GeneratorTask(arguments, SimpleNamespace(say=lambda line: None))

    return make


def train(options, *more):
    import train_generator

    train_generator.main(options(*more))


def from_audio(clips, vae, *more):
    audio = ["--vae", str(vae), "--data.source", "", "--data.audio.source", str(clips)]
    return [*audio, "--data.audio.batch_size", "4", "--data.audio.captions.dropout", "0", *more]


def loss_of(task, batch):
    return task.compute(task.modules, batch, 0).losses["flow"]


def gradients(task, batches):
    """Of the mean over batches, weighted as the trainer weights them."""
    total = sum(task.weight(batch) for batch in batches)
    for batch in batches:
        (loss_of(task, batch) * task.weight(batch) / total).backward()
    found = {name: p.grad.clone() for name, p in task.modules["generator"].named_parameters()}
    task.modules["generator"].zero_grad()
    return found


def test_latents_of_another_autoencoder_are_refused(options, exported_autoencoder, tmp_path, capsys):
    other = AutoencoderStar.from_pretrained(exported_autoencoder)
    other.encoder.conv1.bias.data += 1e-3
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(SystemExit):
        train(options, "--vae", str(tmp_path / "other"))
    assert "were made by another autoencoder" in capsys.readouterr().err


def test_the_loss_is_the_mean_over_all_real_frames(make_task):
    task = make_task("--data.batch_size", "7")
    batch = next(iter(task.batches(0, 0, 1)))
    assert len(set(batch["num_frames"])) > 1
    output = task.compute(task.modules, batch, 0)
    assert task.weight(batch) == sum(batch["num_frames"]) == int(batch["audio_mask"].sum())
    assert output.audio_seconds == pytest.approx(sum(batch["num_frames"]) / 250)
    assert output.metrics["padding"] == pytest.approx(1 - float(batch["audio_mask"].float().mean()))
    # each clip by itself, without padding: the same noise and times, hence the same sum
    total = 0.0
    for row, frames in enumerate(batch["num_frames"]):
        alone = {
            "latents": batch["latents"][row : row + 1, :frames],
            "audio_mask": batch["audio_mask"][row : row + 1, :frames],
            "num_frames": [frames],
            "text": batch["text"][row : row + 1],
            **{name: batch[name][row : row + 1] for name in ("input_ids", "attention_mask", "noise_seed")},
        }
        total += loss_of(task, alone).item() * frames
    assert output.losses["flow"].item() == pytest.approx(total / task.weight(batch), rel=1e-5)


def test_two_processes_have_the_loss_and_the_gradient_of_one(make_task):
    whole = make_task("--data.batch_size", "6")
    halves = make_task("--data.batch_size", "3")
    for name, value in whole.modules["generator"].state_dict().items():
        assert torch.equal(value, halves.modules["generator"].state_dict()[name])
    alone = islice(whole.batches(6, 0, 1), 3)
    shares = [islice(halves.batches(6, rank, 2), 3) for rank in (0, 1)]
    for batch, *parts in zip(alone, *shares, strict=True):
        torch.testing.assert_close(gradients(halves, parts), gradients(whole, [batch]), rtol=1e-4, atol=1e-6)


def test_gradient_checkpointing_changes_neither_loss_nor_gradients(make_task, qwen3):
    for mode in (["--mode", "full"], ["--mode", "lora", "--backbone", str(qwen3), "--text_config", "null"]):
        plain, checkpointed = make_task(*mode), make_task(*mode, "--gradient_checkpointing")
        assert all(
            layer.gradient_checkpointing for layer in checkpointed.modules["generator"].backbone.layers
        )
        batch = next(iter(plain.batches(0, 0, 1)))
        losses = []
        for task in (plain, checkpointed):
            loss = loss_of(task, batch)
            loss.backward()
            losses.append(loss.item())
        assert losses[0] == losses[1]
        pairs = zip(
            *(task.modules["generator"].named_parameters() for task in (plain, checkpointed)), strict=True
        )
        for (_, first), (name, second) in pairs:
            assert (first.grad is None) == (second.grad is None), name
            if first.grad is not None:
                torch.testing.assert_close(second.grad, first.grad, rtol=1e-5, atol=1e-7)


@torch.no_grad()
def test_validation_is_the_same_each_time_and_in_any_batches(make_task):
    task = make_task("--data.validation_fraction", "0.7")
    task.modules["generator"].eval()
    values = task.validate(torch.device("cpu"))
    assert task.validate(torch.device("cpu")) == values
    assert set(values) == {"flow", "flow_t0", "flow_t1", "flow_t2", "flow_t3"}
    assert min(values.values()) < values["flow"] < max(values.values())
    task.data.batch_size = 1
    assert task.validate(torch.device("cpu")) == pytest.approx(values, rel=1e-5)


@torch.no_grad()
def test_each_quarter_of_the_times_is_told_from_the_noisiest_on(make_task):
    """The answer z_t / t is wrong by z_0 / t: enormous near the noise, and of unit size near the data."""
    task = make_task("--data.validation_fraction", "0.7", "--times.std", "3")

    def answer(latents, t, *_):
        return SimpleNamespace(velocity=latents / t[:, None, None].clamp(min=1e-3))

    task.modules["generator"] = answer
    values = task.validate(torch.device("cpu"))
    assert values["flow_t0"] > values["flow_t1"] > values["flow_t2"] > values["flow_t3"]
    assert values["flow_t3"] == pytest.approx(1.0, abs=0.2)


def test_reports_are_the_same_prompts_from_the_same_noise(make_task):
    task = make_task("--report.num_inference_steps", "2", "--report.prompts", '["A dog, barking!", "rain"]')
    task.modules["generator"].eval()
    first, second = (task.report(torch.device("cpu")) for _ in range(2))
    assert list(first.audio) == ["00_a_dog_barking", "01_rain"] and list(first.figures) == ["generations"]
    for name, (waveform, rate) in first.audio.items():
        assert waveform.shape == (2, 2400) and rate == 8000
        assert torch.equal(waveform, second.audio[name][0])
    with torch.no_grad():
        task.modules["generator"].flow_head.bias.add_(0.5)
    assert not torch.equal(task.report(torch.device("cpu")).audio["01_rain"][0], first.audio["01_rain"][0])


def test_reports_take_held_out_captions_by_default(make_task):
    task = make_task("--data.validation_fraction", "0.3")
    held_out = {row[0] for row in task.data.validation.captions}
    assert set(task.prompts) == held_out and len(held_out) == 3
    assert make_task("--data.validation_fraction", "0").prompts


def test_a_resumed_run_is_the_uninterrupted_one(options, tmp_path):
    more = ["--optimizer.schedule", "constant", "--data.batch_size", "3", "--export_dtype", "float32"]
    train(options, *more, "--max_steps", "4", "--output_dir", str(tmp_path / "whole"))
    for steps in ("2", "4"):
        train(options, *more, "--max_steps", steps, "--output_dir", str(tmp_path / "parts"))
    weights = [
        load_file(tmp_path / run / "export" / "model" / "model.safetensors") for run in ("whole", "parts")
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("mode", ["lora", "frozen"])
def test_adapters_are_exported_merged_and_by_themselves(options, qwen3, tmp_path, mode):
    more = ["--mode", mode, "--backbone", str(qwen3), "--text_config", "null", "--export_dtype", "float32"]
    train(options, *more, "--optimizer.learning_rate", "1e-2", "--lora.rank", "2")
    export = tmp_path / "generator" / "export"
    pipeline = StarGenPipeline.from_pretrained(export)
    before = Qwen3Model.from_pretrained(qwen3).state_dict()
    changed = [
        name
        for name, value in pipeline.model.backbone.state_dict().items()
        if not torch.equal(value, before[name])
    ]
    linear = [name for name in before if "proj" in name]
    assert sorted(changed) == (sorted(linear) if mode == "lora" else [])

    loaded = load_adapter_folder(export / "adapter", base=qwen3)
    assert loaded.config.latents_std == pipeline.model.config.latents_std
    batch = {
        "latents": torch.randn(2, 9, 8),
        "timestep": torch.tensor([0.2, 0.7]),
        "input_ids": torch.randint(0, 200, (2, 4)),
    }
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(**batch).velocity, pipeline.model(**batch).velocity, rtol=0, atol=1e-6
        )
    whole = sum(path.stat().st_size for path in (export / "model").iterdir())
    assert sum(path.stat().st_size for path in (export / "adapter").iterdir()) < whole


def test_a_bfloat16_backbone_under_lora(options, qwen3, tmp_path):
    more = [
        "--mode",
        "lora",
        "--backbone",
        str(qwen3),
        "--text_config",
        "null",
        "--backbone_dtype",
        "bfloat16",
    ]
    train(options, *more)
    stored = load_file(tmp_path / "generator" / "export" / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    model = StarGenPipeline.from_pretrained(tmp_path / "generator" / "export").model
    assert model.dtype == torch.float32


def test_mixed_precision_trains_validates_and_reports(options, tmp_path):
    train(options, "--mixed_precision", "bf16", "--report_every", "2", "--report.num_inference_steps", "2")
    sounds = list((tmp_path / "generator" / "reports").rglob("*.wav"))
    assert sounds and all(np.isfinite(soundfile.read(path)[0]).all() for path in sounds)


def test_a_run_goes_on_from_an_exported_pipeline(options, make_task, exported_autoencoder, clips, tmp_path):
    train(options, "--export_dtype", "float32")
    export = tmp_path / "generator" / "export"
    fresh = ["--text_config", "null", "--model", "null", "--init_from", str(tmp_path / "generator")]
    task = make_task(*fresh)
    exported = StarGenPipeline.from_pretrained(export)
    for name, value in exported.model.state_dict().items():
        assert torch.equal(task.modules["generator"].state_dict()[name], value)
    assert task.tokenizer("long noise")["input_ids"] == exported.tokenizer("long noise")["input_ids"]
    # other latents are normalized as the model has learned it
    half = tmp_path / "half"
    half.mkdir()
    for index in range(3):
        (half / f"{index}.wav").write_bytes((clips / f"{index}.wav").read_bytes())
    (half / "metadata.csv").write_text(
        "\n".join((clips / "metadata.csv").read_text().splitlines()[:4]) + "\n"
    )
    encode(exported_autoencoder, half, tmp_path / "half_latents")
    task = make_task(*fresh, "--data.source", str(tmp_path / "half_latents"))
    assert task.data.training.info.latents_std == exported.model.config.latents_std
    _, info = open_latents(tmp_path / "half_latents")
    assert info.latents_std != exported.model.config.latents_std


def test_init_from_another_autoencoder_is_refused(options, make_task, exported_autoencoder, clips, tmp_path):
    train(options)
    other = AutoencoderStar.from_pretrained(exported_autoencoder)
    other.encoder.conv1.bias.data += 1e-3
    other.save_pretrained(tmp_path / "other")
    fresh = ["--text_config", "null", "--model", "null", "--init_from", str(tmp_path / "generator")]
    with pytest.raises(ValueError, match="was trained on another autoencoder than vae"):
        make_task(*fresh, *from_audio(clips, tmp_path / "other"))


def test_audio_gives_the_losses_of_its_latents(make_task, quiet_autoencoder, clips, tmp_path):
    encode(quiet_autoencoder, clips, tmp_path / "quiet")
    stored = make_task("--vae", str(quiet_autoencoder), "--data.source", str(tmp_path / "quiet"))
    audio = make_task(*from_audio(clips, quiet_autoencoder))
    audio.data.statistics = stored.data.statistics
    audio.modules, audio.tokenize = stored.modules, stored.tokenize
    batch = next(iter(audio.batches(0, 0, 1)))
    rows = {row[0]: index for index, row in enumerate(stored.data.training.captions)}
    wanted = [text for text in batch["text"] if text in rows]
    assert len(wanted) >= 2
    for text in wanted:
        place = batch["text"].index(text)
        one = {
            "waveform": batch["waveform"][place : place + 1],
            "num_samples": batch["num_samples"][place : place + 1],
            "noise_seed": batch["noise_seed"][place : place + 1],
            "num_frames": batch["num_frames"][place : place + 1],
            "text": [text],
            **dict(zip(("input_ids", "attention_mask"), audio.tokenize([text]), strict=True)),
        }
        item = stored.data.training[0, rows[text]]
        twin = {
            **{
                name: one[name]
                for name in ("input_ids", "attention_mask", "noise_seed", "num_frames", "text")
            },
            "latents": item["latents"][None],
            "audio_mask": torch.ones(1, len(item["latents"]), dtype=torch.bool),
        }
        assert len(item["latents"]) == one["num_frames"][0]
        torch.testing.assert_close(audio.data.latents(one)[0], twin["latents"], rtol=0, atol=0.02)
        assert loss_of(audio, one).item() == pytest.approx(loss_of(stored, twin).item(), rel=1e-3)


def test_audio_is_encoded_clip_by_clip_and_sampled_from_the_posterior(make_task, exported_autoencoder, clips):
    task = make_task(*from_audio(clips, exported_autoencoder))
    batch = next(iter(task.batches(0, 0, 1)))
    latents, mask = task.data.latents(batch)
    assert torch.equal(latents, task.data.latents(batch)[0])
    assert mask.sum(dim=1).tolist() == batch["num_frames"] and not latents[~mask].any()
    mean, std = (torch.tensor(values) for values in task.data.statistics)
    draws = []
    for seed in range(200):
        draws.append(task.data.latents({**batch, "noise_seed": batch["noise_seed"] + 2 * seed})[0])
    draws = torch.stack(draws) * std + mean
    for row, samples in enumerate(batch["num_samples"].tolist()):
        frames = batch["num_frames"][row]
        alone = torch.nn.functional.pad(batch["waveform"][row, :, :samples], (0, frames * 32 - samples))
        with torch.no_grad():
            posterior = task.vae.encode(alone[None]).latent_dist
        own = draws[:, row, :frames]
        error = (own.mean(dim=0) - posterior.mean[0].T).abs() / (posterior.std[0].T / 200**0.5)
        assert float(error.max()) < 5.5
        torch.testing.assert_close(own.std(dim=0).mean(), posterior.std.mean(), rtol=0.05, atol=0)


def test_posterior_and_flow_have_noise_of_their_own(make_task, exported_autoencoder, clips):
    from engine.noise import SampleNoise

    task = make_task(*from_audio(clips, exported_autoencoder))
    batch = next(iter(task.batches(0, 0, 1)))
    latents, mask = task.data.latents(batch)
    again = task.data.latents({**batch, "noise_seed": batch["noise_seed"] + 2})[0]
    flow = SampleNoise(batch["noise_seed"], "cpu")
    from_the_start = SampleNoise(batch["noise_seed"], "cpu").normal(
        *latents.shape[1:], lengths=mask.sum(dim=1)
    )
    flow.normal()
    after_the_times = flow.normal(*latents.shape[1:], lengths=mask.sum(dim=1))
    own = (latents - again)[mask].flatten()
    for noise in (from_the_start, after_the_times):
        correlation = torch.corrcoef(torch.stack([own, noise[mask].flatten()]))[0, 1]
        assert abs(float(correlation)) < 0.1


def test_audio_statistics_are_measured_or_taken_from_the_autoencoder(
    make_task, exported_autoencoder, clips, latents, tmp_path
):
    everything = ["--data.audio.validation_fraction", "0", "--data.statistics_clips", "8"]
    task = make_task(*from_audio(clips, exported_autoencoder, *everything))
    _, info = open_latents(latents)
    for measured, stored in zip(task.data.statistics, (info.latents_mean, info.latents_std), strict=True):
        assert measured == pytest.approx(stored, rel=1e-3, abs=1e-3)
    assert task.modules["generator"].config.latents_std == task.data.statistics[1]
    other_batches = make_task(
        *from_audio(clips, exported_autoencoder, *everything, "--data.audio.batch_size", "3")
    )
    assert other_batches.data.statistics[1] == pytest.approx(task.data.statistics[1], rel=1e-6)
    vae = AutoencoderStar.from_pretrained(exported_autoencoder)
    vae.register_to_config(latents_mean=[0.5] * 8, latents_std=[2.0] * 8)
    vae.save_pretrained(tmp_path / "known")
    assert make_task(*from_audio(clips, tmp_path / "known")).data.statistics == ([0.5] * 8, [2.0] * 8)


def test_a_run_straight_from_audio(options, exported_autoencoder, clips, tmp_path):
    train(options, *from_audio(clips, exported_autoencoder, "--data.audio.max_seconds", "0.2"))
    pipeline = StarGenPipeline.from_pretrained(tmp_path / "generator" / "export")
    audio = pipeline("short noise", audio_length_in_s=0.1, num_inference_steps=1).audios
    assert audio.shape == (1, 2, 800) and torch.isfinite(audio).all()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data.audio.source", "somewhere"], "exactly one of data.source"),
        (["--mode", "half"], "mode must be one of full, lora, frozen, got 'half'"),
        (["--mode", "lora"], "mode lora needs trained weights"),
        (["--backbone_dtype", "bfloat16"], "mode full trains the backbone in float32"),
        (["--init_from", "somewhere"], "init_from brings its own text_config"),
        (["--times.distribution", "normal"], "times.distribution must be one of"),
        (["--report.seconds", "-1"], "report.seconds must be greater than 0"),
        (["--data.bucket_window", "-1"], "data.bucket_window must be at least 0"),
        (["--losses", "{mse: 1}"], "losses has no 'mse'"),
        (["--export_dtype", "int8"], "export_dtype must be one of"),
    ],
)
def test_options_that_cannot_be_trained_with_are_refused(make_task, more, message):
    with pytest.raises(ValueError, match=message):
        make_task(*more)


def test_reports_that_cannot_be_generated_are_refused_before_training(make_task):
    with pytest.raises(ValueError, match="audio_length_in_s"):
        make_task("--report.seconds", "1000")


@pytest.mark.slow
def test_from_recordings_to_a_pipeline(
    autoencoder_options, encode_options, generator_options, recordings, tmp_path
):
    root = Path(__file__).parents[2]

    def run(script, options):
        path = os.pathsep.join([str(root / "src"), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, str(root / "training" / script), *options]
        subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})

    vae = ["--vae", str(tmp_path / "autoencoder")]
    run("train_autoencoder.py", autoencoder_options("--data.cache_audio", "--mixed_precision", "bf16"))
    run("encode_latents.py", encode_options(*vae))
    run("train_generator.py", generator_options(*vae))

    export = tmp_path / "generator" / "export"
    stored = load_file(export / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert str(tmp_path) not in "".join(path.read_text() for path in export.rglob("*.json"))
    pipeline = StarGenPipeline.from_pretrained(export)
    assert pipeline.model.dtype == pipeline.vae.dtype == torch.float32
    _, info = open_latents(tmp_path / "latents")
    assert pipeline.model.config.latents_std == info.latents_std
    generator = torch.Generator().manual_seed(0)
    audio = pipeline("a low tone", num_inference_steps=2, generator=generator).audios
    assert audio.shape == (1, 2, 2400)
    assert bool(torch.isfinite(audio).all()) and float(audio.abs().max()) > 0
