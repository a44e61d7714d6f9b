"""Run `star-hf` inside the test process."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest


@dataclass
class Result:
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Call with the arguments of `star-hf`; returns its exit code and what it printed."""
    from star_hf.cli import main

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["star-hf", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = 0 if stop.code is None else stop.code
        printed = capsys.readouterr()
        return Result(code, printed.out, printed.err)

    # Wide enough that messages are not wrapped, and without colours.
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return run


@pytest.fixture(autouse=True)
def _restore_logging():
    """The command silences libraries, which the tests of other parts listen to."""
    import diffusers.utils.logging
    import transformers.utils.logging

    loggings = [diffusers.utils.logging, transformers.utils.logging]
    levels = [logging.get_verbosity() for logging in loggings]
    yield
    for logging, level in zip(loggings, levels, strict=True):
        logging.set_verbosity(level)
        logging.enable_progress_bar()


@pytest.fixture
def clip(tmp_path):
    """A second of stereo noise at 16 kHz."""
    import torch

    from star_hf import write_audio

    return write_audio(tmp_path / "clip.wav", 0.1 * torch.randn(2, 16000), 16000)
