"""The arguments of the model and of the pipeline, checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import torch

from .prefix_cache import TextPrefix

OUTPUT_TYPES = ("pt", "np", "latent")


def check_forward(
    channels: int,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    audio_mask: torch.Tensor | None,
    prefix: TextPrefix | None,
) -> None:
    """Raise a ValueError unless the shapes of `StarGenModel.forward`'s arguments fit each other."""
    if latents.ndim != 3 or latents.shape[2] != channels or latents.shape[1] == 0:
        raise ValueError(
            f"`latents` must have shape (batch, frames, {channels}) with at least one frame, "
            f"got {tuple(latents.shape)}"
        )
    batch, frames = latents.shape[:2]
    if (input_ids is None) == (prefix is None):
        raise ValueError("exactly one of `input_ids` and `prefix` must be given")
    if timestep.shape != (batch,):
        raise ValueError(f"`timestep` must have shape ({batch},), got {tuple(timestep.shape)}")
    if input_ids is not None:
        check_text(input_ids, attention_mask)
    elif attention_mask is not None:
        raise ValueError("`attention_mask` belongs to `input_ids`; `prefix` has its own")
    rows = len(input_ids) if prefix is None else prefix.batch_size
    if rows != batch:
        name = "input_ids" if prefix is None else "prefix"
        raise ValueError(f"`{name}` must have {batch} rows, as `latents` has, got {rows}")
    if audio_mask is not None and audio_mask.shape != (batch, frames):
        raise ValueError(f"`audio_mask` must have shape ({batch}, {frames}), got {tuple(audio_mask.shape)}")


def check_text(input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> None:
    """Raise a ValueError unless there is at least one column of text and the mask has its shape."""
    if input_ids.ndim != 2 or input_ids.shape[1] == 0:
        raise ValueError(
            "`input_ids` must have shape (batch, tokens) with at least one token, which may be padding, "
            f"got {tuple(input_ids.shape)}"
        )
    if attention_mask is not None and attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"`attention_mask` must have the shape of `input_ids`, {tuple(input_ids.shape)}, "
            f"got {tuple(attention_mask.shape)}"
        )


def check_prompts(prompt: Any, negative_prompt: Any) -> int:
    """The number of prompts.

    Raises:
        TypeError: not a string or a list of strings.
        ValueError: no prompt, or not as many negative prompts as prompts.
    """
    for name, value in (("prompt", prompt), ("negative_prompt", negative_prompt)):
        if value is None and name == "negative_prompt":
            continue
        if not isinstance(value, str) and not (
            isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value)
        ):
            raise TypeError(f"`{name}` must be a string or a list of strings, got {_describe(value)}")
    count = 1 if isinstance(prompt, str) else len(prompt)
    if count == 0:
        raise ValueError("`prompt` must hold at least one prompt, got an empty list")
    if isinstance(negative_prompt, (list, tuple)) and len(negative_prompt) != count:
        raise ValueError(
            f"`negative_prompt` must have one entry per prompt, {count}, or be one string, "
            f"got {len(negative_prompt)} entries"
        )
    return count


def check_count(name: str, value: Any) -> None:
    """Raise unless `value` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"`{name}` must be an integer, got {_describe(value)}")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}")


def check_finite(name: str, value: Any) -> None:
    """Raise unless `value` is a finite number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a number, got {_describe(value)}")
    if not math.isfinite(value):
        raise ValueError(f"`{name}` must be finite, got {value}")


def check_audio_length(seconds: Any, sampling_rate: int, longest: float) -> None:
    """Raise unless `seconds` is a duration of at least one sample and at most `longest`."""
    check_finite("audio_length_in_s", seconds)
    if seconds <= 0:
        raise ValueError(f"`audio_length_in_s` must be positive, got {seconds}")
    if round(seconds * sampling_rate) < 1:
        raise ValueError(f"`audio_length_in_s` must be at least one sample, 1/{sampling_rate}, got {seconds}")
    if seconds > longest:
        raise ValueError(
            f"`audio_length_in_s` must be at most {longest:g} s, got {seconds:g}; where memory allows more, "
            "raise `pipe.model.config.max_audio_length_in_s`"
        )


def check_generator(generator: Any, batch_size: int) -> None:
    """Raise unless `generator` is `None`, a generator, or a list of one generator per waveform."""
    if generator is None or isinstance(generator, torch.Generator):
        return
    is_list = isinstance(generator, (list, tuple))
    if not is_list or not all(isinstance(entry, torch.Generator) for entry in generator):
        raise TypeError(
            f"`generator` must be a torch.Generator or a list of them, got {_describe(generator)}"
        )
    if len(generator) != batch_size:
        raise ValueError(
            f"`generator` must have one entry per waveform, {batch_size} (prompts times "
            f"`num_waveforms_per_prompt`), got {len(generator)}"
        )


def check_latents(latents: Any, batch_size: int, channels: int) -> None:
    """Raise unless `latents` is a finite floating point tensor `(batch_size, channels, frames)`."""
    if not isinstance(latents, torch.Tensor) or not latents.is_floating_point():
        raise TypeError(f"`latents` must be a floating point tensor, got {_describe(latents)}")
    shape = tuple(latents.shape)
    if len(shape) != 3 or shape[:2] != (batch_size, channels) or shape[2] == 0:
        raise ValueError(
            f"`latents` must have shape (waveforms, channels, frames) = ({batch_size}, {channels}, frames), "
            f"got {shape}"
        )
    if not latents.isfinite().all():
        raise ValueError("`latents` must be finite, got NaN or infinity")


def check_output_type(output_type: Any) -> None:
    """Raise a ValueError unless `output_type` is one of `OUTPUT_TYPES`."""
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"`output_type` must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}")


def check_callback(callback: Callable | None, tensor_inputs: Sequence[str], allowed: Sequence[str]) -> None:
    """Raise unless the callback can be called and asks for tensors that there are."""
    if callback is not None and not callable(callback):
        raise TypeError(f"`callback_on_step_end` must be callable, got {_describe(callback)}")
    unknown = [name for name in tensor_inputs if name not in allowed]
    if unknown:
        raise ValueError(
            f"`callback_on_step_end_tensor_inputs` must be among {', '.join(allowed)}, "
            f"got {', '.join(unknown)}"
        )


def _describe(value: Any) -> str:
    return f"{value!r:.60} of type {type(value).__name__}"
