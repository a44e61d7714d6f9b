"""Every notebook runs from its first cell to its last, and prints what it shows."""

from __future__ import annotations

import copy
import re

import pytest
from markdown_pages import NOTEBOOKS, ROOT, find

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
#: In front of the notebook: a sound in two steps is as good here as one in the notebook's own.
FEW_STEPS = """
from star_hf import StarGenPipeline

sample = StarGenPipeline.__call__
StarGenPipeline.__call__ = lambda *given, **options: sample(*given, **{**options, "num_inference_steps": 2})
"""
#: What another processor may change of a printed number, as a share.
TOLERANCE = 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", find(NOTEBOOKS))
def test_a_notebook_prints_what_it_shows(name, reader, hub, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    # the kernel is a process of its own: the stand-in is told to it as a Hub is
    for variable, value in {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("HF_HOME", str(reader.folder / "huggingface"))
    shown = nbformat.read(ROOT / name, as_version=4)
    run = copy.deepcopy(shown)
    run.cells.insert(0, nbformat.v4.new_code_cell(FEW_STEPS))
    nbclient.NotebookClient(
        run, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(reader.folder)}}
    ).execute()
    for number, (there, here) in enumerate(zip(shown.cells, run.cells[1:], strict=True)):
        if there.cell_type == "code":
            assert kinds(here) == kinds(there), f"{name}, cell {number}: run it again, and save it"
            assert_close(printed(here), printed(there), f"{name}, cell {number}")


def test_notebooks_are_saved_with_their_output():
    nbformat = pytest.importorskip("nbformat")
    for name in find(NOTEBOOKS):
        cells = nbformat.read(ROOT / name, as_version=4).cells
        saved = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
        assert saved, f"{name} was saved without output"
        assert not [output for output in saved if output.output_type == "error"], name


def outputs(cell) -> list:
    """What a cell gives, but for warnings of libraries."""
    return [output for output in cell.outputs if output.get("name") != "stderr"]


def kinds(cell) -> list[str]:
    """The types of what a cell gives, streams that follow each other as one."""
    kinds = []
    for output in outputs(cell):
        kind = output.output_type + "".join(sorted(output.get("data", {})))
        if output.output_type != "stream" or kinds[-1:] != [kind]:
            kinds.append(kind)
    return kinds


def printed(cell) -> str:
    return "".join(output.text for output in outputs(cell) if output.output_type == "stream")


def assert_close(here: str, there: str, where: str) -> None:
    """The same text with about the same numbers."""
    assert NUMBER.sub("#", here) == NUMBER.sub("#", there), where
    numbers = [[float(text.replace(",", "")) for text in NUMBER.findall(side)] for side in (here, there)]
    assert numbers[0] == pytest.approx(numbers[1], rel=TOLERANCE, abs=TOLERANCE), where


@pytest.mark.parametrize(
    ("here", "there", "same"),
    [
        ("176,400 samples, 1.59\n", "176,400 samples, 1.60\n", True),
        ("176,400 samples, 1.59\n", "176,400 samples, 1.79\n", False),
        ("1.00e-04 nats", "1.00e-04 bits", False),
    ],
)
def test_outputs_are_compared_as_numbers(here, there, same):
    if same:
        assert_close(here, there, "")
    else:
        with pytest.raises(AssertionError):
            assert_close(here, there, "")
