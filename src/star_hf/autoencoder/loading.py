"""Checkpoints that do not fit are refused with the names of what does not fit; nothing is unpickled."""

import os
from collections.abc import Callable
from typing import Any

from diffusers.models.modeling_utils import ModelMixin
from huggingface_hub.utils import HFValidationError, validate_repo_id

_HUB_OPTIONS = (
    "cache_dir",
    "force_download",
    "proxies",
    "local_files_only",
    "token",
    "revision",
    "subfolder",
)
_HINTS = {
    "AutoencoderOobleck": "; use `AutoencoderStar.from_oobleck`",
    "AutoencoderStar": "; use `AutoencoderStar.from_pretrained`",
}


class ExactLoadingMixin:
    """To be put before diffusers' `ModelMixin` among the bases of a model."""

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike, *, output_loading_info: bool = False, **kwargs
    ):
        """Load a folder or a Hub id as diffusers does, from safetensors only, and refuse what does not fit.

        Raises:
            OSError: if there is no checkpoint.
            ValueError: if it is of another class, or has missing, unexpected or misshapen keys, all named.
        """
        model, info = load_exactly(cls, super().from_pretrained, pretrained_model_name_or_path, **kwargs)
        return (model, info) if output_loading_info else model

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        save_function: Callable | None = None,
        safe_serialization: bool = True,
        **kwargs,
    ):
        """Save to a folder as diffusers does, in safetensors only.

        Raises:
            ValueError: if pickled weights are asked for.
            NotADirectoryError: if `save_directory` is a file.
        """
        _require_safetensors("safe_serialization", safe_serialization)
        if os.path.isfile(save_directory):
            raise NotADirectoryError(f"`save_directory` must be a folder, but {save_directory} is a file.")
        super().save_pretrained(save_directory, is_main_process, save_function, **kwargs)


def load_exactly(
    model_class: type[ModelMixin], load: Callable[..., Any], source: str | os.PathLike, **kwargs: Any
) -> tuple[ModelMixin, dict[str, list]]:
    """Load a checkpoint of `model_class` whose keys are those of the model, no more and no fewer.

    Args:
        load: the `from_pretrained` of `model_class` that diffusers wrote.
        source: a folder or a Hub id.
        kwargs: further arguments of `load`.

    Returns:
        The model and diffusers' `loading_info`.

    Raises:
        OSError: if `source` is neither a folder nor a Hub id, or has no configuration or no safetensors file.
        ValueError: if it is of another class, or has missing, unexpected or misshapen keys, all named.
    """
    source = os.fspath(source)
    _require_safetensors("use_safetensors", kwargs.get("use_safetensors"))
    if not os.path.isdir(source):
        try:
            validate_repo_id(source)
        except HFValidationError as error:
            raise FileNotFoundError(f"{source} is neither a folder nor a Hub repository's id.") from error
    hub_options = {name: kwargs[name] for name in _HUB_OPTIONS if name in kwargs}
    saved_class = model_class.load_config(source, **hub_options).get("_class_name")
    if saved_class not in {parent.__name__ for parent in model_class.__mro__}:
        hint = _HINTS.get(saved_class, "")
        raise ValueError(f"{source} holds a model of class {saved_class}, not {model_class.__name__}{hint}.")
    strict = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, info = load(source, **{**kwargs, **strict})
    problems = [
        f"{kind}: {', '.join(sorted(info[f'{kind}_keys']))}"
        for kind in ("missing", "unexpected")
        if info[f"{kind}_keys"]
    ]
    problems += [
        f"{key} has shape {tuple(saved)} instead of {tuple(expected)}"
        for key, saved, expected in sorted(info["mismatched_keys"])
    ]
    if problems:
        raise ValueError(f"{source} is no checkpoint of this {model_class.__name__}; {'; '.join(problems)}.")
    return model, info


def _require_safetensors(argument: str, value: bool | None) -> None:
    if value is False:
        raise ValueError(f"`{argument}` must be True: weights are kept in safetensors only, never pickled.")
