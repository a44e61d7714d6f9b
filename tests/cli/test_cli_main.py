"""Exit codes and messages that all commands share."""

from __future__ import annotations

import subprocess
import sys

import pytest

import star_hf
from star_hf.cli import console


def test_help_names_the_commands(run_cli):
    result = run_cli("--help")
    assert result.code == 0
    for command in ("generate", "reconstruct", "info"):
        assert command in result.stdout


def test_version(run_cli):
    result = run_cli("--version")
    assert (result.code, result.stdout.strip()) == (0, star_hf.__version__)


@pytest.mark.parametrize(
    "arguments",
    [
        ("compose", "a dog barking"),
        ("generate", "a dog barking", "--loudness", 3),
        ("generate", "a dog barking", "--seconds", "long"),
    ],
)
def test_wrong_usage_is_2(run_cli, arguments):
    result = run_cli(*arguments)
    assert result.code == 2 and result.stderr and not result.stdout


def test_failure_is_1_in_one_line_without_traceback(run_cli, tmp_path):
    result = run_cli("info", tmp_path / "nowhere")
    assert result.code == 1 and not result.stdout
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "nowhere" in result.stderr and "Traceback" not in result.stderr


def test_debug_shows_the_traceback(run_cli, tmp_path):
    result = run_cli("--debug", "info", tmp_path / "nowhere")
    assert result.code == 1 and "Traceback" in result.stderr


def test_an_unforeseen_error_names_its_type(run_cli, monkeypatch):
    def fail(model):
        raise RuntimeError("something\nodd")

    monkeypatch.setattr("star_hf.cli.info.resolve_model", fail)
    result = run_cli("info")
    assert (result.code, result.stderr) == (1, "error: RuntimeError: something odd\n")


def test_interruption_is_130(run_cli, monkeypatch):
    def interrupt(model):
        raise KeyboardInterrupt

    monkeypatch.setattr("star_hf.cli.info.resolve_model", interrupt)
    result = run_cli("info")
    assert result.code == 130 and "Traceback" not in result.stderr


def test_progress_is_a_bar_on_a_terminal_and_a_line_elsewhere(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    for terminal in (True, False):
        if not terminal:
            monkeypatch.delenv("FORCE_COLOR")
        reporter = console.Reporter(as_json=False)
        with reporter.progress("rain [falling]", 2) as advance:
            advance()
            advance()
        printed = capsys.readouterr()
        assert not printed.out and "rain [falling]" in printed.err
        assert ("2/2" in printed.err) == terminal
        assert ("(2 steps)" in printed.err) != terminal


COMMAND = "import atexit; atexit.register(print, 'left'); from star_hf.cli import run; run()"


@pytest.mark.parametrize(("argument", "code"), [("--version", 0), ("--loudness", 2)])
def test_a_process_of_its_own_says_and_returns_the_same(argument, code):
    result = subprocess.run([sys.executable, "-c", COMMAND, argument], capture_output=True, text=True)
    assert result.returncode == code
    assert result.stdout.splitlines() == [star_hf.__version__, "left"][code // 2 :]
    assert bool(result.stderr) == bool(code)


def test_a_process_waits_for_its_threads():
    command = (
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.5), print('done'))).start()"
    )
    result = subprocess.run(
        [sys.executable, "-c", f"{command}; {COMMAND}", "--version"], capture_output=True, text=True
    )
    assert result.stdout.split() == [star_hf.__version__, "done", "left"]
