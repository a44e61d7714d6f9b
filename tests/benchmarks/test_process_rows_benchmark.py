"""Rows that run commands, and the options of a user: what they refuse, and what they ask the scripts."""

import sys
from pathlib import Path

import pyarrow
import pytest
import torch

TRAINING = Path(__file__).parents[2] / "training"


@pytest.fixture
def cold_start(load):
    return load("cold_start")


@pytest.fixture
def encode_dataset(load):
    return load("encode_dataset")


@pytest.fixture
def options(load):
    return load("options")


def test_a_process_that_fails_is_quoted(cold_start):
    with pytest.raises(ValueError, match="ended with 3: no such thing"):
        cold_start.run_process([sys.executable, "-c", "print('no such thing'); exit(3)"], threads=1)


def test_the_peak_of_a_process_is_its_own(cold_start):
    code = "x = bytearray(50 << 20); x[::4096] = b'1' * len(x[::4096]); import time; time.sleep(0.1)"
    seconds, peak = cold_start.run_process([sys.executable, "-c", code], threads=1, watch=True)
    assert 50 << 20 < peak < 100 << 20
    assert seconds > 0.1
    assert cold_start.run_process([sys.executable, "-c", "pass"], threads=1)[1] == 0


def test_the_written_file_must_be_the_pipelines_clip(cold_start, load, tmp_path):
    import argparse

    from star_hf.audio import write_audio

    parser = argparse.ArgumentParser()
    cold_start.add_options(parser)
    arguments = parser.parse_args(["--seconds", "0.5", "--steps", "2"])
    pipeline = load("models").embedded_pipeline(torch.device("cpu"), torch.float32)
    audio = pipeline(
        cold_start.PROMPT,
        audio_length_in_s=0.5,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(cold_start.SEED),
    ).audios[0]
    write_audio(tmp_path / "same.wav", audio, 44100)
    assert cold_start.check(tmp_path / "same.wav", arguments) < 1e-2
    write_audio(tmp_path / "shorter.wav", audio[:, :-1], 44100)
    with pytest.raises(ValueError, match="the file is of shape"):
        cold_start.check(tmp_path / "shorter.wav", arguments)
    write_audio(tmp_path / "other.wav", 0.9 * audio, 44100)
    with pytest.raises(ValueError, match="the written file differs from the pipeline's clip"):
        cold_start.check(tmp_path / "other.wav", arguments)


def test_the_command_is_the_installed_one(cold_start, tmp_path):
    command = cold_start.generate_command(tmp_path / "clip.wav", 5.0, 24)
    start = command[: command.index("generate")]
    assert start == [str(Path(sys.executable).with_name("star-hf"))] or start[0] == sys.executable
    assert command[-2:] == ["--output", str(tmp_path / "clip.wav")]


def test_the_script_takes_the_options_and_says_its_rate(encode_dataset, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(TRAINING))
    from encoding.arguments import EncodeArguments
    from encoding.processes import Progress
    from encoding.report import progress_line
    from engine.arguments import parse_arguments

    given = encode_dataset.script_options(tmp_path / "clips", tmp_path / "latents", 3, tmp_path / "vae")
    arguments = parse_arguments(EncodeArguments, given)
    arguments.check()
    assert (arguments.threads, arguments.text_column) == (3, None)
    line = progress_line([Progress(clips=7, audio_seconds=14.0, seconds=2.0)] * 2, 0, 14)
    assert encode_dataset.RATE.findall(line) == ["7.00"]


def test_latents_that_differ_are_refused(encode_dataset):
    def run(values):
        return encode_dataset.Run(pyarrow.table({"mean": values}), 1.0, 1.0)

    encode_dataset.require_same_latents({"one": run([1, 2]), "two": run([1, 2])})
    for values in ([2, 1], [1], [1, 3]):
        with pytest.raises(ValueError, match="latents of two differ from those of one"):
            encode_dataset.require_same_latents({"one": run([1, 2]), "two": run(values)})


def measure(options, name, kind="pipeline"):
    return options.measure_option(name, kind, "cpu", tiny=True, steps=2, repeats=1)


@pytest.fixture
def brief(options, monkeypatch):
    """Half a second of audio is enough here."""
    from dataclasses import replace

    for name, option in options.OPTIONS.items():
        monkeypatch.setitem(options.OPTIONS, name, replace(option, seconds=0.5))


def test_an_option_has_its_time_memory_and_cost(options, brief):
    result = measure(options, "bfloat16", "autoencoder")
    assert (result.how, result.subject) == ("vae.to(torch.bfloat16)", "decode, 0.5 s, tiny")
    assert result.ratio == pytest.approx(result.default_seconds / result.seconds)
    assert 1e-4 < result.error < 0.1
    assert 0 < result.spectral_distance < 1
    exact = measure(options, "slicing")
    assert (exact.subject, exact.error < 1e-5) == ("text to audio, 4 × 0.5 s, tiny", True)
    assert exact.spectral_distance < 1e-3


def test_an_option_that_may_not_change_the_audio_is_refused_when_it_does(options, brief, monkeypatch):
    from dataclasses import replace

    def louder(subject):
        decode = subject.decode
        subject.decode = lambda z: type(decode(z))(sample=1.01 * decode(z).sample)

    folded = options.OPTIONS["weight norm folded"]
    monkeypatch.setitem(options.OPTIONS, "weight norm folded", replace(folded, apply=louder))
    with pytest.raises(
        ValueError, match="the audio with weight norm folded differs from that without by 1.0e-02"
    ):
        measure(options, "weight norm folded", "autoencoder")


def test_an_option_that_is_not_there_or_fails_says_why(options, brief, monkeypatch):
    from dataclasses import replace

    monkeypatch.setitem(
        options.OPTIONS, "8-bit weights", replace(options.OPTIONS["8-bit weights"], needs="no_such_package")
    )
    assert measure(options, "8-bit weights").reason == "no_such_package is not installed"

    def fail(subject):
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setitem(
        options.OPTIONS, "model compiled", replace(options.OPTIONS["model compiled"], apply=fail)
    )
    result = measure(options, "model compiled")
    assert (result.reason, result.seconds) == ("fails: RuntimeError: no compiler", None)
    assert (
        options.option_line(result)
        == "model compiled, text to audio, 0.5 s, tiny: fails: RuntimeError: no compiler"
    )
