"""Load what a command needs from a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from star_hf.generation import StarGenPipeline


def load_pipeline(folder: Path, device: torch.device, dtype: torch.dtype) -> StarGenPipeline:
    """The text-to-audio pipeline in `folder`. Raises `ValueError` if it holds something else."""
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"{folder}: holds {model_class(folder)}, not a pipeline; `generate` needs one.")
    from star_hf.generation import StarGenPipeline

    return StarGenPipeline.from_pretrained(folder, torch_dtype=dtype).to(device)


def load_autoencoder(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The audio autoencoder in `folder`, or in the `vae` folder of a pipeline; ours or one of diffusers.

    Raises `ValueError` if there is none.
    """
    if (folder / "model_index.json").is_file():
        folder = folder / "vae"
    class_name = model_class(folder)
    if class_name == "AutoencoderStar":
        from star_hf.autoencoder import AutoencoderStar as autoencoder_class
    else:
        import diffusers

        autoencoder_class = getattr(diffusers, class_name, None) if "Autoencoder" in class_name else None
    if autoencoder_class is None:
        raise ValueError(f"{folder}: holds {class_name}, not an audio autoencoder.")
    autoencoder = autoencoder_class.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True)
    for name in ("sampling_rate", "audio_channels"):
        if name not in autoencoder.config:
            raise ValueError(f"{folder}: {class_name} is no audio autoencoder (its config has no `{name}`).")
    return autoencoder.to(device).eval()


def model_class(folder: Path) -> str:
    """The class that a model folder names, in the way of diffusers or of transformers."""
    config = read_json(folder / "config.json")
    return str(config.get("_class_name") or (config.get("architectures") or ["an unknown model"])[0])


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`; the error names the file."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: is missing.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: is not valid JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: must hold a JSON object.")
    return content
