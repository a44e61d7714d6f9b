"""`star-hf push`: what it prints, its exit codes, and that --dry-run is the truth."""

from __future__ import annotations

import json
import sys

import pytest
from hub_users import CARD


@pytest.fixture
def run(monkeypatch, capsys):
    """Call with the arguments of `star-hf push`; returns exit code, standard output and standard error."""
    from star_hf.cli import main

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["star-hf", "push", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return call


def test_dry_run_lists_exactly_what_a_push_sends_and_asks_nobody(hub, client, run, pipeline_folder):
    (pipeline_folder / ".env").write_text("SECRET=1")
    client(None)
    code, out, _ = run(pipeline_folder, "me/thing", "--dry-run")
    assert code == 0 and not hub.requests
    assert "a StarGenPipeline, to a model repository: 10 files" in out
    assert "  .env: hidden" in out and "nothing was sent" in out and "  license: mit" in out

    code, out, _ = run(pipeline_folder, "me/thing", "--dry-run", "--json")
    document = json.loads(out)
    assert code == 0 and document["sent"] is False and not hub.requests

    from hub_users import TOKEN

    client(TOKEN)
    code, out, err = run(pipeline_folder, "me/thing")
    assert code == 0 and out == f"{hub.url}/me/thing\n" and "made the repository me/thing" in err
    files = hub.repository("me/thing").files()
    sizes = {path: len(content) for path, content in files.items() if path != ".gitattributes"}
    assert {file["path"]: file["size_in_bytes"] for file in document["files"]} == sizes
    assert document["size_in_bytes"] == sum(sizes.values())


def test_json_of_a_push(hub, client, run, autoencoder_folder):
    (autoencoder_folder / "README.md").write_text(CARD.replace("tags:", "date: 2026-01-02\ntags:"))
    code, out, _ = run(
        autoencoder_folder, "me/vae", "--private", "--revision", "v1", "--message", "m", "--json"
    )
    document = json.loads(out)
    assert code == 0 and document["sent"] and document["changed"] and document["kind"] == "autoencoder"
    assert document["commit"] == hub.repository("me/vae").refs["v1"] and hub.repository("me/vae").private
    assert document["metadata"]["date"] == "2026-01-02"
    code, out, err = run(autoencoder_folder, "me/vae", "--revision", "v1", "--json")
    assert code == 0 and not json.loads(out)["changed"] and "all there already" in err


def test_many_files_of_one_folder_are_counted(run, client, autoencoder_folder):
    (autoencoder_folder / "checkpoints").mkdir()
    for index in range(20):
        (autoencoder_folder / "checkpoints" / f"{index}.bin").write_bytes(b"x" * 100)
    code, out, _ = run(autoencoder_folder, "me/vae", "--dry-run")
    assert code == 0 and "  checkpoints/: 20 files, 2.0 kB: training state" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere", "me/thing"], 1, "error: nowhere: this folder does not exist."),
        (["{folder}", "thing"], 1, "it must be user/name or organization/name."),
        (["{folder}", "me/thing", "--loud"], 2, "No such option"),
        (["{folder}"], 2, "Missing argument"),
    ],
)
def test_wrong_use(hub, client, run, pipeline_folder, arguments, code, message):
    result = run(*(argument.format(folder=pipeline_folder) for argument in arguments))
    assert result[0] == code and message in result[2] and not result[1] and not hub.requests


def test_a_refusal_is_one_line(hub, client, run, pipeline_folder):
    client(None)
    code, out, err = run(pipeline_folder, "me/thing")
    assert code == 1 and not out
    assert err.splitlines()[-1].startswith(
        f"error: {pipeline_folder} cannot be pushed to me/thing: there is no token"
    )
    assert "Traceback" not in err
