"""The benchmarks' own modules, found as they are when a script runs."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Import a module of benchmarks/; what it would silence in its own process stays as it is here."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load_module(name):
        module = importlib.import_module(name)
        for loaded in (module, sys.modules.get("common")):
            if hasattr(loaded, "silence_advice"):
                monkeypatch.setattr(loaded, "silence_advice", lambda: None)
        return module

    return load_module


@pytest.fixture
def report(load):
    return load("measurements").Report()


@pytest.fixture
def faster(load):
    """A measurement on the CPU, twice as fast as its peer unless told otherwise."""

    def make(what="decode, float32", peer_name="peer", ours=1.0, peer=2.0, **others):
        values = {"precision": "float32", "device": "cpu", **others}
        return load("measurements").faster(what, peer_name, ours, peer, **values)

    return make


MACHINE = {
    "cpu": "A Processor",
    "architecture": "x86_64",
    "cores": 2,
    "usable_cores": 2,
    "memory_gib": 16.0,
    "instructions": ["avx512f", "avx512_bf16"],
    "gpu": None,
    "cuda": None,
    "system": "Linux",
    "python": "3.11.0",
    "versions": {"torch": "2.8.0"},
}


@pytest.fixture
def machine():
    return dict(MACHINE)


@pytest.fixture
def write_row(load, tmp_path):
    """Write a row's JSON as the command leaves it; returns the folder."""
    from dataclasses import asdict

    def write(name, measurements=(), machine=None, **others):
        measured = load("measurements")
        document = {
            "row": name,
            "command": f"python benchmarks/{name}.py",
            "seconds": 90.0,
            "others_share": 0.0,
            "machine": {**MACHINE, **(machine or {})},
            **asdict(measured.Report(measurements=list(measurements))),
            **others,
        }
        measured.write_json(tmp_path / "page" / f"{name}.json", document)
        return tmp_path / "page"

    return write
