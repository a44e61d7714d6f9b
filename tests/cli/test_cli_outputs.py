"""Which files a command writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from star_hf.cli.outputs import plan_outputs, prepare_outputs


@pytest.mark.parametrize(
    ("output", "count", "format", "expected"),
    [
        ("dog.wav", 1, None, ["dog.wav"]),
        ("dog.flac", 1, "flac", ["dog.flac"]),
        ("dog", 1, None, ["dog.wav"]),
        ("dog", 1, "flac", ["dog.flac"]),
        ("sounds/dog.WAV", 2, None, ["sounds/dog_000.wav", "sounds/dog_001.wav"]),
        ("a.b.wav", 2, None, ["a.b_000.wav", "a.b_001.wav"]),
        ("sounds/", 2, "flac", ["sounds/a.flac", "sounds/b.flac"]),
    ],
)
def test_plan(output, count, format, expected):
    assert plan_outputs(output, ["a", "b"][:count], format) == [Path(path) for path in expected]


def test_an_existing_folder_needs_no_slash_and_equal_names_are_numbered(tmp_path):
    assert plan_outputs(str(tmp_path), ["a"], None) == [tmp_path / "a.wav"]
    assert plan_outputs(str(tmp_path), ["a", "a"], None) == [tmp_path / "000.wav", tmp_path / "001.wav"]


@pytest.mark.parametrize(
    ("output", "format", "message"),
    [
        ("dog.wav", "flac", "'dog.wav' and --format flac disagree"),
        ("dog.mp3", None, "'dog.mp3' must end in .wav or .flac"),
        ("dog", "mp3", "'mp3' is not one of wav, flac"),
    ],
)
def test_disagreement_is_wrong_usage(output, format, message):
    with pytest.raises(typer.BadParameter, match=message):
        plan_outputs(output, ["a"], format)


def test_prepare_makes_the_named_folder_only(tmp_path):
    output = f"{tmp_path}/new/deep/"
    prepare_outputs(output, plan_outputs(output, ["a"], None))
    assert (tmp_path / "new" / "deep").is_dir() and not list((tmp_path / "new" / "deep").iterdir())
    with pytest.raises(NotADirectoryError, match="missing does not exist"):
        prepare_outputs(f"{tmp_path}/missing/a.wav", [tmp_path / "missing" / "a.wav"])
