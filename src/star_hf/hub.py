"""Where models are found: the checkpoint inside the package, folders, and the Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

EMBEDDED_NAME = "star-gen-esc10"

# A model is configuration, safetensors and tokenizer files; pickled weights are never fetched.
_MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def embedded_checkpoint() -> Path:
    """The folder of the text-to-audio pipeline that is installed with the package.

    Raises `FileNotFoundError` if this installation does not have it.
    """
    folder = Path(__file__).parent / "checkpoints" / EMBEDDED_NAME
    if not (folder / "model_index.json").is_file():
        raise FileNotFoundError(f"This installation has no embedded checkpoint ({folder} is missing).")
    return folder


def resolve_model(model: str | os.PathLike[str] | None = None, revision: str | None = None) -> Path:
    """The local folder of a model: None is the embedded checkpoint, else a folder or a Hub id "user/name".

    A Hub model is downloaded, or taken from the cache, at `revision`. Raises `FileNotFoundError` for a folder
    that does not exist or holds no model, and what huggingface_hub raises for an id that cannot be fetched.
    """
    if model is None:
        return embedded_checkpoint()
    folder = Path(model).expanduser()
    if folder.is_file():
        raise NotADirectoryError(f"{model}: is a file; a model is a folder or a Hub id.")
    if folder.is_dir():
        return _require_model(folder, str(model))
    if not (isinstance(model, str) and _HUB_ID.fullmatch(model)):
        raise FileNotFoundError(f"{model}: no such folder, and not a Hub id (user/name).")

    from huggingface_hub import snapshot_download

    return _require_model(
        Path(snapshot_download(model, revision=revision, allow_patterns=list(_MODEL_FILES))), model
    )


def _require_model(folder: Path, name: str) -> Path:
    if not any((folder / file).is_file() for file in ("model_index.json", "config.json")):
        raise FileNotFoundError(f"{name}: holds no model (neither model_index.json nor config.json).")
    return folder
