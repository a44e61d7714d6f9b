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

    quiet_libraries()
    pipeline = StarGenPipeline.from_pretrained(folder, dtype=dtype).to(device)
    _prepare_for_inference(pipeline.vae)
    return pipeline


def load_autoencoder(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The audio autoencoder in `folder`, or in the `vae` folder of a pipeline; ours or one of diffusers.

    Raises `ValueError` if there is none.
    """
    if (folder / "model_index.json").is_file():
        folder = folder / "vae"
    class_name = model_class(folder)
    autoencoder_class = _autoencoder_class(class_name)
    if autoencoder_class is None:
        raise ValueError(f"{folder}: holds {class_name}, not an audio autoencoder.")
    from star_hf.autoencoder.loading import load_exactly

    quiet_libraries()
    load = autoencoder_class.from_pretrained
    autoencoder: Any = load_exactly(autoencoder_class, load, folder, dtype=dtype)[0]
    for name in ("sampling_rate", "audio_channels"):
        if name not in autoencoder.config:
            raise ValueError(f"{folder}: {class_name} is no audio autoencoder (its config has no `{name}`).")
    autoencoder.to(device).eval()
    _prepare_for_inference(autoencoder)
    return autoencoder


def _autoencoder_class(name: str) -> Any:
    if name in ("AutoencoderStar", "AutoencoderLafa"):
        import star_hf

        return getattr(star_hf, name)
    import diffusers

    return getattr(diffusers, name, None) if name.startswith("Autoencoder") else None


def _prepare_for_inference(autoencoder: Any) -> None:
    """Bounded memory and constant weights for ours; diffusers' tiles of audio are not exact."""
    from star_hf.autoencoder import AutoencoderStar

    if isinstance(autoencoder, AutoencoderStar):
        autoencoder.enable_tiling()
        autoencoder.fold_weight_norm()


def quiet_libraries() -> None:
    """Leave progress and errors to the command; what does not fit a model is raised, not logged."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


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
