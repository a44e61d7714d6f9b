"""How much one visitor may ask for, and what a request must be like."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..audio import AudioError, audio_info

NUM_SEEDS = 2**32
SHORTEST_SECONDS = 0.1
MEGABYTE = 2**20  # as the browser counts


@dataclass(frozen=True)
class Limits:
    """Bounds of the demo.

    Args:
        max_seconds: of an upload, and of a generated clip where the model does not set a lower one.
        max_megabytes: of an upload.
        max_stored_megabytes: of all uploads and results on disk together; the oldest go first.
        max_waiting: requests in the queue behind the one that runs.
    """

    max_seconds: float = 60.0
    max_megabytes: float = 50.0
    max_stored_megabytes: float = 1000.0
    max_waiting: int = 8
    max_steps: int = 200
    max_guidance: float = 20.0
    max_variations: int = 4
    max_characters: int = 1000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"`{name}` must be a finite number > 0, got {value!r}.")
        if self.max_seconds < SHORTEST_SECONDS:
            raise ValueError(f"`max_seconds` must be at least {SHORTEST_SECONDS}, got {self.max_seconds!r}.")

    @property
    def max_upload_bytes(self) -> int:
        return int(self.max_megabytes * MEGABYTE)


@dataclass(frozen=True)
class GenerationRequest:
    """What is to be generated; variation i has the seed `seed + i`, as in `star-hf generate`.

    It comes from a form as it was filled in, numbers that are None or not whole included: `checked_request`.
    """

    prompt: str
    negative_prompt: str = ""
    seconds: float = 5.0
    steps: int = 24
    guidance: float = 3.0
    seed: int = 0
    variations: int = 1

    def seeds(self) -> list[int]:
        return [(self.seed + index) % NUM_SEEDS for index in range(self.variations)]


def checked_request(request: GenerationRequest, limits: Limits, longest: float) -> GenerationRequest:
    """The request with whole numbers as `int`; raises `ValueError`, in words for the page, out of bounds.

    `longest` is the longest clip in seconds that the model and the limits allow.
    """
    if not request.prompt.strip():
        raise ValueError("The prompt is empty: write what you want to hear.")
    for name, text in (("prompt", request.prompt), ("negative prompt", request.negative_prompt)):
        if len(text) > limits.max_characters:
            raise ValueError(
                f"The {name} has {len(text)} characters; at most {limits.max_characters} are allowed."
            )
    _check_range("Seconds", request.seconds, min(SHORTEST_SECONDS, longest), longest)
    _check_range("Guidance", request.guidance, 0, limits.max_guidance)
    return replace(
        request,
        steps=_whole("Steps", request.steps, 1, limits.max_steps),
        variations=_whole("Variations", request.variations, 1, limits.max_variations),
        seed=_whole("Seed", request.seed, 0, NUM_SEEDS - 1),
    )


def check_upload(path: Path, limits: Limits, audio_channels: int) -> None:
    """Raise `AudioError` for a file that is too large, too long or no audio; only its header is read.

    Besides mono and stereo it may have as many channels as the autoencoder.
    """
    size = path.stat().st_size
    if size > limits.max_upload_bytes:
        raise AudioError(
            f"{path.name} has {size / MEGABYTE:.1f} MB; at most {limits.max_megabytes:g} MB are allowed."
        )
    info = audio_info(path)
    if info.duration > limits.max_seconds:
        raise AudioError(
            f"{path.name} is {_duration(info.duration)} long; at most {_duration(limits.max_seconds)} are "
            "allowed. Cut a piece out of it."
        )
    if info.channels not in (1, 2, audio_channels):
        raise AudioError(f"{path.name} has {info.channels} channels; it must be mono or stereo.")


def _check_range(name: str, value: Any, low: float, high: float) -> None:
    if value is None or not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} must be between {_shown(low)} and {_shown(high)}, not {_shown(value)}.")


def _whole(name: str, value: Any, low: int, high: int) -> int:
    _check_range(name, value, low, high)
    if value != int(value):
        raise ValueError(f"{name} must be a whole number, not {_shown(value)}.")
    return int(value)


def _shown(value: Any) -> str:
    return "empty" if value is None else f"{value:.12g}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.6g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"
