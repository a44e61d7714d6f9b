"""Where models are found: the checkpoint inside the package, folders, and the Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

EMBEDDED_NAME = "star-gen-esc10"

# A model is configuration, safetensors and tokenizer files; pickled weights are never fetched.
_MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def embedded_checkpoint() -> Path:
    """The folder of the text-to-audio pipeline that is installed with the package.

    Raises `FileNotFoundError` if this installation does not have it.
    """
    folder = Path(__file__).parents[1] / "checkpoints" / EMBEDDED_NAME
    if not (folder / "model_index.json").is_file():
        raise FileNotFoundError(f"This installation has no embedded checkpoint ({folder} is missing).")
    return folder


def resolve_model(
    model: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """The local folder of a model: None is the embedded checkpoint, else a folder or a Hub id "user/name".

    A Hub model is downloaded, or taken from the cache, at `revision`, a branch, tag or commit. `token` is by
    default that of `hf auth login` or `HF_TOKEN`; with `local_files_only` nothing is fetched.

    Raises `FileNotFoundError` for a folder that does not exist or holds no model, and `HubError`, an
    `OSError` that says what to do, for an id that cannot be fetched.
    """
    if model is None:
        return embedded_checkpoint()
    folder = Path(model).expanduser()
    if folder.is_file():
        raise NotADirectoryError(f"{model}: is a file; a model is a folder or a Hub id.")
    if folder.is_dir():
        return _require_model(folder, str(model))
    if not isinstance(model, str) or _is_path(model):
        raise FileNotFoundError(f"{model}: this folder does not exist.")
    if not _HUB_ID.fullmatch(model):
        raise FileNotFoundError(f"{model}: no such folder, and not a Hub id (user/name).")

    from huggingface_hub import snapshot_download

    from .errors import explained

    with explained(f"{model}: no such folder here, and from the Hub", model):
        downloaded = snapshot_download(
            model,
            revision=revision,
            token=token,
            local_files_only=local_files_only,
            allow_patterns=list(_MODEL_FILES),
        )
    return _require_model(Path(downloaded), model)


def _is_path(model: str) -> bool:
    """Whether this can only be meant as a path of this machine."""
    return model.startswith((".", "~", "/")) or "\\" in model or Path(model).is_absolute()


def _require_model(folder: Path, name: str) -> Path:
    if not any((folder / file).is_file() for file in ("model_index.json", "config.json")):
        raise FileNotFoundError(f"{name}: holds no model (neither model_index.json nor config.json).")
    return folder
