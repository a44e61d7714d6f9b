"""`star-hf card`: the command that a card names is the one that renders it."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass

import pytest

from star_hf.cli import main


@dataclass
class Result:
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch, capsys, request_card):
    """Call with the arguments of `star-hf`, beside the folder of measurements."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(request_card.target.parent)

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["star-hf", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return Result(code, printed.out, printed.err)

    return call


def test_the_command_in_the_card_renders_it(run, request_card):
    result = run("card", "measured", "-o", "measured.md", "--name", "a model", "--autoencoder", "star")
    assert result.code == 0, result.stderr
    assert result.stdout == "measured.md  pipeline, shows 5 files\n"
    card = request_card.target.read_text()
    (command,) = [line for line in card.splitlines() if line.startswith("star-hf card ")]
    request_card.target.unlink()
    assert run(*shlex.split(command)[1:]).code == 0
    assert request_card.target.read_text() == card
    assert run(*shlex.split(command)[1:], "--check").code == 0


def test_absolute_paths_stay_out_of_the_card(run, request_card, tmp_path, monkeypatch):
    below = tmp_path / "elsewhere"
    below.mkdir()
    monkeypatch.chdir(below)
    result = run("card", request_card.folder, "--output", request_card.target, "--json")
    assert result.code == 0, result.stderr
    assert json.loads(result.stdout)["kind"] == "pipeline"
    assert str(tmp_path) not in request_card.target.read_text()


def test_check_tells_the_first_line_that_differs(run, request_card):
    arguments = ("card", "measured", "-o", "measured.md")
    assert "measured.md: is missing" in run(*arguments, "--check").stderr
    run(*arguments)
    request_card.target.write_text(request_card.target.read_text().replace("**76.5%**", "**99.9%**"))
    result = run(*arguments, "--check")
    assert (result.code, result.stdout) == (1, "")
    assert "is not what its measurements render to" in result.stderr and "99.9%" in result.stderr


def test_wrong_use_is_told_in_a_line(run, request_card, documents):
    for arguments, code, message in (
        (("card", "measured"), 2, "Missing option '--output'"),
        (("card", "nowhere", "-o", "out.md"), 1, "nowhere: no such folder"),
        (("card", "measured", "-o", "out.md", "--model", "nowhere"), 1, "nowhere: no such folder"),
        (("card", "measured", "-o", "out.md", "--autoencoder", "x"), 1, "measured ones: star, isotropic"),
    ):
        result = run(*arguments)
        assert result.code == code and message in result.stderr
        assert code == 2 or result.stderr.count("\n") == 1
    del documents["generation.json"]["generated"]["silent_clips"]
    (request_card.folder / "generation.json").write_text(json.dumps(documents["generation.json"]))
    result = run("card", "measured", "-o", "out.md")
    assert result.code == 1
    assert "measured/generation.json: generated.silent_clips is missing, and the card needs" in result.stderr
