"""What kinds of folders have cards, and which one a folder is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

KINDS = ("pipeline", "autoencoder", "lafa", "generator", "adapter", "latents")
LATENTS_FILE = "latents.json"
#: The layers that `star_hf.generation.adapters` trains beside the backbone.
HEADS_FILE = "star_gen_heads.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"
MODEL_INDEX = "model_index.json"


def kind_of(folder: Path) -> str:
    """Which of `KINDS` a folder is, from the names and configurations of its files.

    Raises `ValueError` when it is none of them.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    for name, kind in ((LATENTS_FILE, "latents"), (MODEL_INDEX, "pipeline"), (HEADS_FILE, "adapter")):
        if (folder / name).is_file():
            return kind
    config = read_config(folder / "config.json")
    if config.get("model_type") == "star_gen":
        return "generator"
    if config.get("_class_name") == "AutoencoderLafa":
        return "lafa"
    named = "sampling_rate" in config or "sample_rate" in config
    if named and str(config.get("_class_name")).startswith("Autoencoder"):
        return "autoencoder"
    name = config.get("_class_name") or (config.get("architectures") or ["an unknown model"])[0]
    raise ValueError(f"{folder}: holds {name}; cards are made of {', '.join(KINDS)}")


def check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}, got {kind!r}")


def read_config(file: Path) -> dict[str, Any]:
    """A configuration file. Raises `ValueError` that names it when it is not there or no JSON object."""
    if not file.is_file():
        raise ValueError(f"{file}: is missing")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: is not valid JSON ({error})") from None
    if not isinstance(config, dict):
        raise ValueError(f"{file}: must hold a JSON object")
    return config
