"""The files of the Space fit the package."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

import star_hf

SPACE = Path(star_hf.__file__).parent / "demo" / "space"
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def _front_matter():
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((SPACE / "README.md").read_text().split("---")[1])


def test_the_space_starts_the_command_with_what_its_variables_say(monkeypatch):
    import star_hf.cli.demo

    calls = []
    monkeypatch.setattr(star_hf.cli.demo, "demo", lambda **options: calls.append(options))
    monkeypatch.setenv("STAR_HF_MODEL", "someone/some-model")
    monkeypatch.setenv("STAR_HF_MAX_SECONDS", "12")
    runpy.run_path(str(SPACE / "app.py"), run_name="__main__")
    assert calls[0]["model"] == "someone/some-model"
    assert calls[0]["max_seconds"] == 12
    assert (calls[0]["host"], calls[0]["port"]) == ("0.0.0.0", 7860)
    runpy.run_path(str(SPACE / "app.py"), run_name="app")
    assert len(calls) == 1


def test_its_requirements_are_the_packages_and_the_demos():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib is part of Python from 3.11 on")
    import tomllib

    project = tomllib.loads(PYPROJECT.read_text())["project"]
    wanted = {*project["dependencies"], *project["optional-dependencies"]["demo"]}
    listed = set((SPACE / "requirements.txt").read_text().split())
    # Gradio comes with the Space, in the version that its README names.
    assert {entry for entry in wanted if not entry.startswith("gradio")} == listed


def test_its_readme_names_a_gradio_that_the_demo_takes():
    matter = _front_matter()
    assert matter["sdk"] == "gradio" and (SPACE / matter["app_file"]).is_file()
    assert re.fullmatch(r"6\.\d+\.\d+", matter["sdk_version"])
