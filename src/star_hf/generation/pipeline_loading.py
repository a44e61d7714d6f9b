"""Saving and loading a pipeline whose components live outside diffusers: folders and Hub repositories."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from huggingface_hub import snapshot_download

from .loading import require_safetensors

_DOWNLOADED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
_DOWNLOAD_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision")
# What `DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)` runs.
_PIPELINE_FILE = "from star_hf import StarGenPipeline as StarGenPipeline\n"


class StarPipeline(DiffusionPipeline):
    """A pipeline of this library: what [`~diffusers.DiffusionPipeline`] needs to save and load one."""

    def register_to_config(self, **kwargs: Any) -> None:
        """Record our classes as `["star_hf", name]` in `model_index.json`: modules may move, names stay."""
        for name, value in kwargs.items():
            if isinstance(value, tuple) and isinstance(value[0], str) and value[0].startswith("star_hf."):
                kwargs[name] = ("star_hf", value[1])
        super().register_to_config(**kwargs)

    def save_pretrained(
        self, save_directory: str | os.PathLike, safe_serialization: bool = True, **kwargs: Any
    ) -> None:
        """Save the components, `model_index.json`, and `pipeline.py` for [`~diffusers.DiffusionPipeline`]."""
        require_safetensors(safe_serialization)
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pipeline.py").write_text(_PIPELINE_FILE)
        super().save_pretrained(save_directory, safe_serialization=True, **kwargs)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        use_safetensors: bool | None = True,
        **kwargs: Any,
    ):
        """Load a pipeline from a folder or a Hub id; further arguments are those of diffusers.

        Raises:
            ValueError: another pipeline's checkpoint, or pickled weights asked for.
            OSError: no checkpoint there.
        """
        require_safetensors(use_safetensors)
        return super().from_pretrained(
            os.fspath(pretrained_model_name_or_path), use_safetensors=True, **kwargs
        )

    @classmethod
    def load_config(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any):
        """diffusers' own, and a ValueError if it is the configuration of another pipeline."""
        loaded = super().load_config(pretrained_model_name_or_path, **kwargs)
        class_name = (loaded[0] if isinstance(loaded, tuple) else loaded).get("_class_name")
        if class_name not in {parent.__name__ for parent in cls.__mro__}:
            raise ValueError(f"{pretrained_model_name_or_path} holds a {class_name}, not a {cls.__name__}")
        return loaded

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs: Any) -> str:
        """Fetch a Hub repository into the cache, without pickles, code and components given in `kwargs`.

        diffusers' own method refuses components of libraries that it does not know.
        """
        components, _ = cls._get_signature_keys(cls)
        return snapshot_download(
            pretrained_model_name,
            allow_patterns=_DOWNLOADED,
            ignore_patterns=[f"{name}/*" for name in components if kwargs.get(name) is not None],
            **{name: kwargs[name] for name in _DOWNLOAD_OPTIONS if kwargs.get(name) is not None},
        )
