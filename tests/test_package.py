"""The package itself: public names, what importing it costs, what it carries."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import star_hf
from star_hf import hub

SOURCE = Path(star_hf.__file__)


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(' '.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize("module", ["star_hf", "star_hf.cli"])
def test_import_leaves_heavy_libraries_alone(module):
    heavy = {"torch", "transformers", "diffusers", "numpy", "soundfile", "huggingface_hub"}
    assert not heavy & _modules_after(f"import {module}")


@pytest.mark.parametrize("name", star_hf.__all__)
def test_every_public_name_resolves_and_is_listed(name):
    assert getattr(star_hf, name) is not None
    assert name in dir(star_hf)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = star_hf.nonsense


def test_type_checkers_see_the_same_names_as_users():
    block = next(node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == star_hf._EXPORTS
    assert (SOURCE.parent / "py.typed").is_file()


def test_diffusers_finds_the_base_classes_of_our_components():
    for name, module in star_hf._LOADABLE_CLASSES.items():
        assert getattr(star_hf, name) is getattr(importlib.import_module(module), name)


def test_embedded_checkpoint_is_small_and_holds_no_pickles():
    folder = hub.embedded_checkpoint()
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 40e6
    assert {"model_index.json", "diffusion_pytorch_model.safetensors", "model.safetensors"} <= {
        file.name for file in files
    }
    assert not [file for file in files if file.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npz"}]


def test_resolve_model_takes_folders(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert hub.resolve_model(tmp_path) == tmp_path
    assert hub.resolve_model(str(tmp_path)) == tmp_path


def test_resolve_model_refuses_what_is_no_model(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(FileNotFoundError, match="holds no model .neither model_index.json nor"):
        hub.resolve_model(tmp_path)
    with pytest.raises(NotADirectoryError, match="notes.txt: is a file"):
        hub.resolve_model(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match="no such folder, and not a Hub id"):
        hub.resolve_model("runs/some/export")


def test_resolve_model_fetches_safetensors_only_from_the_hub(tmp_path, monkeypatch):
    calls = {}

    def snapshot_download(repo_id, **kwargs):
        calls[repo_id] = kwargs
        (tmp_path / "model_index.json").write_text("{}")
        return str(tmp_path)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert hub.resolve_model("someone/some-model", revision="v1") == tmp_path
    assert calls["someone/some-model"]["revision"] == "v1"
    patterns = calls["someone/some-model"]["allow_patterns"]
    assert "*.safetensors" in patterns and not {"*.bin", "*.pt", "*"} & set(patterns)
