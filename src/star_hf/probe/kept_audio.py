"""Clips that are kept to be heard and seen."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from ..audio import write_audio
from .records import file_name

AUDIO = "audio"


def keep_clip(folder: Path, name: str, title: str, waveform: torch.Tensor, sampling_rate: int) -> str:
    """Write `(channels, samples)` as FLAC below `folder`/audio/`name`; returns the path from `folder`.

    What is not finite becomes silence.
    """
    own = folder / AUDIO / file_name(name)
    own.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:60]
    finite = torch.nan_to_num(waveform, nan=0.0, posinf=0.0, neginf=0.0)
    return write_audio(own / f"{slug}.flac", finite, sampling_rate).relative_to(folder.resolve()).as_posix()
