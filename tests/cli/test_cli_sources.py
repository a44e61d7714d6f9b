"""Which of a command's arguments are autoencoders, what they are called, and which one is the data set."""

from __future__ import annotations

import pytest
import typer

from star_hf.cli.sources import check_dataset, name_autoencoders
from star_hf.hub import EMBEDDED_NAME


def test_names(tmp_path):
    assert name_autoencoders([]) == {EMBEDDED_NAME: None}
    entries = ["runs/ours/", "stabilityai/stable-audio-open-1.0", "third=runs/a=b"]
    assert name_autoencoders(entries) == {
        "ours": "runs/ours/",
        "stable-audio-open-1.0": "stabilityai/stable-audio-open-1.0",
        "third": "runs/a=b",
    }
    # a folder that is there may have the sign in its name
    folder = tmp_path / "beta=2"
    folder.mkdir()
    assert name_autoencoders([str(folder)]) == {"beta=2": str(folder)}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["a/vae", "b/vae"], r"name 'vae': a/vae and b/vae. Write OTHER_NAME=b/vae"),
        (["x=a", "x=b"], "two autoencoders have the name 'x'"),
        (["=a"], "'=a' is not a folder"),
        (["a="], "'a=' is not a folder"),
        ([""], "'' is not a folder"),
    ],
)
def test_names_that_say_nothing(entries, message):
    with pytest.raises(typer.BadParameter, match=message):
        name_autoencoders(entries)


@pytest.mark.parametrize("file", ["config.json", "model_index.json"])
def test_an_autoencoder_is_no_data_set(tmp_path, file):
    check_dataset(str(tmp_path))
    check_dataset("user/sounds")
    (tmp_path / file).write_text("{}")
    with pytest.raises(typer.BadParameter, match="the data set comes last"):
        check_dataset(str(tmp_path))
    with pytest.raises(typer.BadParameter, match="'ours=folder' is an autoencoder"):
        check_dataset("ours=folder")


@pytest.mark.parametrize("command", ["audit", "probe"])
def test_the_data_set_comes_last(run_cli, tiny_pipeline_folder, tmp_path, command):
    result = run_cli(command, tmp_path, tiny_pipeline_folder)
    assert result.code == 2 and "the data set comes last" in result.stderr
    result = run_cli(command, "-o", tmp_path)
    assert result.code == 2 and "DATASET" in result.stderr
