"""Autoencoders by folder, of this package, of diffusers or of transformers, for the audit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .codec import Codec, as_codec

OWN_CLASSES = ("AutoencoderStar", "AutoencoderLafa")
TRANSFORMERS_CLASSES = ("DacModel", "EncodecModel")
#: Autoencoders of diffusers that begin or end at mel spectrograms: there is no waveform to compare.
SPECTROGRAM_CLASSES = ("AutoencoderKLLTX2Audio", "MMAudioVAE")
_VAE_FOLDER = "vae"


@dataclass(frozen=True)
class CodecFolder:
    """An autoencoder on disk: `folder`, the `class_name` and `sampling_rate` in Hz of its configuration."""

    folder: Path
    class_name: str
    sampling_rate: int


def inspect_codec(folder: str | Path) -> CodecFolder:
    """What is in `folder`, or in the `vae` folder of a pipeline, from its configuration alone.

    Raises `ValueError` when it is not an audio autoencoder that the audit can take.
    """
    path = Path(folder)
    if not (path / "config.json").is_file() and (path / _VAE_FOLDER / "config.json").is_file():
        path = path / _VAE_FOLDER
    file = path / "config.json"
    if not file.is_file():
        raise ValueError(f"{folder}: holds no autoencoder (no config.json).")
    config = json.loads(file.read_text(encoding="utf-8"))
    name = str(config.get("_class_name") or (config.get("architectures") or ["an unknown model"])[0])
    _model_class(name, str(folder))
    rate = config.get("sampling_rate") or config.get("sample_rate")
    if not rate:
        raise ValueError(f"{folder}: {name} is no audio autoencoder (its config has no `sampling_rate`).")
    return CodecFolder(path, name, int(rate))


def load_codec(source: CodecFolder, device: str | torch.device = "cpu") -> Codec:
    """Load an autoencoder from safetensors in float32. Raises `ValueError` or `OSError` for what fails."""
    model_class = _model_class(source.class_name, str(source.folder))
    model: Any = model_class.from_pretrained(source.folder, use_safetensors=True, dtype=torch.float32)
    model.to(device).eval()
    if source.class_name == "AutoencoderStar":
        model.enable_tiling()  # exact, and memory no longer grows with the clip
        model.fold_weight_norm()
    return as_codec(model)


def _model_class(name: str, folder: str) -> Any:
    if name == "AutoencoderStar":
        from ..autoencoder import AutoencoderStar

        return AutoencoderStar
    if name == "AutoencoderLafa":
        from ..lafa import AutoencoderLafa

        return AutoencoderLafa
    if name in TRANSFORMERS_CLASSES:
        import transformers

        return getattr(transformers, name)
    import diffusers

    found = getattr(diffusers, name, None)
    is_model = isinstance(found, type) and issubclass(found, diffusers.ModelMixin)
    if not is_model or not hasattr(found, "decode") or name in SPECTROGRAM_CLASSES:
        raise ValueError(f"{folder}: holds {name}, not an autoencoder of waveforms.")
    return found
