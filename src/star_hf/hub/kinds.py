"""What a folder, or a repository on the Hub, holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL_INDEX, CONFIG = "model_index.json", "config.json"
LATENTS_FILE = "latents.json"
#: The layers that an adapter has beside PEFT's own files; see `star_hf.generation.adapters`.
HEADS_FILE, PEFT_CONFIG = "star_gen_heads.safetensors", "adapter_config.json"
PIPELINES = ("StarGenPipeline", "StableAudioPipeline")
#: What a file of accelerate's checkpoints is called in a training run.
CHECKPOINT_FILE = "run_state.json"
EXPORT_FOLDER = "export"
KNOWN = (
    "a StarGenPipeline, a StableAudioPipeline, an AutoencoderStar, an AutoencoderLafa, a StarGenModel, an "
    "adapter or a latent dataset"
)

ReadJson = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """`name` is pipeline, autoencoder, lafa, generator, adapter or latents; `class_name` what loads it."""

    name: str
    class_name: str

    @property
    def repo_type(self) -> str:
        """The type of its repository on the Hub."""
        return "dataset" if self.name == "latents" else "model"

    def __str__(self) -> str:
        words = {"adapter": "an adapter of a StarGenModel", "latents": "a latent dataset"}
        return words.get(self.name) or _with_article(self.class_name)


def recognize(names: Collection[str], read_json: ReadJson) -> Kind:
    """The kind of the files called `names`; `read_json` gives the content of one of them.

    Raises `ValueError` that says what else it is, without naming the place.
    """
    if LATENTS_FILE in names:
        return Kind("latents", "LatentDataset")
    if MODEL_INDEX in names:
        class_name = str(read_json(MODEL_INDEX).get("_class_name"))
        if class_name not in PIPELINES:
            raise ValueError(f"holds {_with_article(class_name)}; known are {KNOWN}")
        return Kind("pipeline", class_name)
    if HEADS_FILE in names:
        return Kind("adapter", "StarGenModel")
    if PEFT_CONFIG in names:
        raise ValueError(f"holds an adapter of PEFT without {HEADS_FILE}, which is not one of this library")
    if CONFIG not in names:
        raise ValueError(f"holds no model (no {MODEL_INDEX}, {CONFIG} or {LATENTS_FILE}); known are {KNOWN}")
    config = read_json(CONFIG)
    class_name = config.get("_class_name")
    if class_name == "AutoencoderStar":
        return Kind("autoencoder", class_name)
    if class_name == "AutoencoderLafa":
        return Kind("lafa", class_name)
    if config.get("model_type") == "star_gen":
        return Kind("generator", "StarGenModel")
    found = class_name or (config.get("architectures") or [f"model of type {config.get('model_type')}"])[0]
    raise ValueError(f"holds {_with_article(found)}; known are {KNOWN}")


def recognize_folder(folder: Path) -> Kind:
    """The kind of a folder. Raises `ValueError` naming it when it is none, or a checkpoint of a training."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    if CHECKPOINT_FILE in names:
        raise ValueError(
            f"{folder}: is a training checkpoint, with the state of the optimizer; the model of a run is in "
            f"its {EXPORT_FOLDER}/."
        )
    try:
        return recognize(names, lambda name: read_json_file(folder / name))
    except ValueError as error:
        if str(error).startswith(str(folder)):
            raise
        raise ValueError(f"{folder}: {error}.") from error


def _with_article(name: str) -> str:
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"


def read_json_file(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises `ValueError` naming it when there is none in it."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: is not valid JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: must hold a JSON object.")
    return content
