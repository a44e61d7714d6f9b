"""`star-hf generate` with a tiny pipeline."""

from __future__ import annotations

import inspect
import json

import pytest
import torch

from star_hf import StarGenPipeline, audio_info, embedded_checkpoint, read_audio
from star_hf.cli.generate import generate


@pytest.fixture
def run_generate(run_cli, tiny_pipeline_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        defaults = ("--model", tiny_pipeline_folder, "--seconds", 0.5, "--steps", 2)
        return run_cli("generate", *defaults, *arguments)

    return run


def test_one_prompt_one_file(run_generate, tmp_path):
    result = run_generate("a dog barking", "-o", "dog.wav", "--seed", 7)
    assert result.code == 0, result.stderr
    info = audio_info(tmp_path / "dog.wav")
    assert (info.sampling_rate, info.channels, info.num_frames) == (8000, 2, 4000)
    assert result.stdout == "dog.wav  0.50 s  seed 7  a dog barking\n"
    for phase in ("loading", "sampling", "decoding"):
        assert phase in result.stderr


def test_json_is_all_that_stdout_holds(run_generate, tmp_path):
    result = run_generate("a dog barking", "sea waves", "-o", "clip.flac", "--seed", 7, "--json")
    assert result.code == 0, result.stderr
    document = json.loads(result.stdout)
    assert [(file["path"], file["prompt"], file["seed"]) for file in document["files"]] == [
        ("clip_000.flac", "a dog barking", 7),
        ("clip_001.flac", "sea waves", 8),
    ]
    for file in document["files"]:
        info = audio_info(tmp_path / file["path"])
        assert (info.sampling_rate, info.duration, info.channels) == (8000, file["seconds"], file["channels"])
    assert {"loading", "sampling", "decoding", "writing"} <= set(document["time"])


def test_a_seed_gives_its_clip_alone_and_in_any_batch(run_generate, tmp_path):
    prompts = ("a dog barking", "rain falling on a roof", "sea waves")
    assert run_generate(*prompts, "-o", "batch/", "--seed", 7, "--batch-size", 3).code == 0
    assert run_generate("sea waves", "-o", "alone.wav", "--seed", 9).code == 0
    batch, _ = read_audio(tmp_path / "batch" / "002.wav")
    alone, _ = read_audio(tmp_path / "alone.wav")
    other, _ = read_audio(tmp_path / "batch" / "000.wav")
    assert (batch - alone).abs().max() <= 2 / 32768 < (other - alone).abs().max()


def test_variations_differ_and_no_seed_is_a_new_seed(run_generate):
    first = run_generate("sea waves", "--variations", 2, "-o", "a/", "--json")
    second = run_generate("sea waves", "-o", "b/", "--json")
    seeds = [file["seed"] for run in (first, second) for file in json.loads(run.stdout)["files"]]
    assert len(set(seeds)) == 3
    assert not torch.equal(read_audio("a/000.wav")[0], read_audio("a/001.wav")[0])


def test_guidance_and_negative_prompt_reach_the_pipeline(run_generate):
    changes = {"plain": (), "unguided": ("--guidance", 1), "negative": ("--negative", "rain falling")}
    clips = {}
    for name, options in changes.items():
        assert run_generate("sea waves", "--seed", 1, "-o", f"{name}.wav", *options).code == 0
        clips[name] = read_audio(f"{name}.wav")[0]
    assert not torch.equal(clips["plain"], clips["unguided"])
    assert not torch.equal(clips["plain"], clips["negative"])


def test_defaults_are_the_pipelines():
    ours, theirs = (
        inspect.signature(function).parameters for function in (generate, StarGenPipeline.__call__)
    )
    assert ours["steps"].default == theirs["num_inference_steps"].default
    assert ours["guidance"].default == theirs["guidance_scale"].default


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--seconds", 0), "--seconds"),
        (("--seconds", "nan"), "--seconds"),
        (("--steps", 0), "--steps"),
        (("--guidance", "nan"), "--guidance"),
        (("--seed", -1), "--seed"),
        (("--variations", 0), "--variations"),
        (("--format", "mp3"), "--format"),
        (("-o", "dog.mp3"), "--output"),
        (("--device", "abacus"), "--device"),
        (("--dtype", "int8"), "--dtype"),
    ],
)
def test_wrong_values_are_wrong_usage(run_generate, monkeypatch, options, named):
    monkeypatch.setattr("star_hf.cli.generate.load_pipeline", _must_not_run)
    result = run_generate("a dog barking", *options)
    assert result.code == 2 and named in result.stderr and not result.stdout


def _must_not_run(*arguments):
    raise AssertionError("a model was loaded")


@pytest.mark.parametrize("output", ["missing/dog.wav", "taken.wav", "taken.wav/"])
def test_an_unwritable_output_is_found_before_loading(run_generate, tmp_path, monkeypatch, output):
    if output == "taken.wav":
        (tmp_path / "taken.wav").mkdir()
        (tmp_path / "taken.wav" / "000.wav").mkdir()
    elif output == "taken.wav/":
        (tmp_path / "taken.wav").write_bytes(b"a file")
    monkeypatch.setattr("star_hf.cli.generate.load_pipeline", _must_not_run)
    result = run_generate("a dog barking", "-o", output)
    assert result.code == 1 and not result.stdout
    assert result.stderr.startswith("error: ") and output.split("/")[0] in result.stderr


def test_a_folder_that_is_no_pipeline(run_generate, run_cli, tiny_pipeline_folder, tmp_path):
    result = run_cli("generate", "a dog", "--model", tiny_pipeline_folder / "vae")
    assert result.code == 1 and "holds AutoencoderStar, not a pipeline" in result.stderr
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableAudioPipeline"}')
    result = run_cli("generate", "a dog", "--model", tmp_path)
    assert result.code == 1 and "StableAudioPipeline" in result.stderr


def test_too_long_for_the_model_is_refused_in_words(run_generate, tmp_path):
    result = run_generate("a dog barking", "--seconds", 1e9)
    assert result.code == 1 and "`audio_length_in_s` must be at most" in result.stderr
    assert not list(tmp_path.glob("*.wav"))


def test_interruption_keeps_finished_clips_and_no_half_one(run_generate, tmp_path, monkeypatch):
    calls = []
    original = StarGenPipeline.predict_velocity

    def predict_velocity(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 4:  # the last step of the second clip
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(StarGenPipeline, "predict_velocity", predict_velocity)
    result = run_generate("a dog barking", "sea waves", "-o", "clips/", "--batch-size", 1)
    assert result.code == 130 and "Traceback" not in result.stderr
    assert [file.name for file in (tmp_path / "clips").iterdir()] == ["000.wav"]


@pytest.mark.slow
def test_the_embedded_checkpoint_makes_sound(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert embedded_checkpoint().is_dir()
    result = run_cli("generate", "a dog barking", "--seconds", 2, "--seed", 0, "-o", "dog.wav")
    assert result.code == 0, result.stderr
    waveform, rate = read_audio("dog.wav")
    assert rate == 44100 and waveform.shape == (2, 88200)
    assert waveform.abs().max() > 0.01 and waveform.square().mean().sqrt() > 1e-3
