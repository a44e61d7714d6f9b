"""The clips of a data set, read in pieces: an hour-long file needs no more memory than a short one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..audio import AudioError, convert_channels
from ..data import BadFile, audio_name, audio_source, clip_info, read_span


@dataclass(frozen=True)
class Piece:
    """A stretch of a clip, `waveform` `(channels, samples)`; `is_last` ends the clip."""

    clip: int
    start: int
    waveform: torch.Tensor
    is_last: bool


@dataclass(frozen=True)
class ClipReader:
    """Reads rows of an undecoded audio data set.

    Args:
        rows: of a data set that can be indexed, such as `load_audio_dataset` gives.
        max_seconds: longer clips are cut to their beginning; None reads them whole.
        piece_seconds: what is read and encoded at once.
    """

    rows: Sequence[Mapping[str, Any]]
    audio_column: str = "audio"
    max_seconds: float | None = None
    piece_seconds: float = 30.0

    def name(self, clip: int) -> str:
        return audio_name(self.rows[clip][self.audio_column], clip)

    def pieces(
        self, clip: int, sampling_rate: int, channels: int, hop_length: int
    ) -> Iterator[Piece | BadFile]:
        """Pieces of equal length, whole hops each but the last; a `BadFile` where the clip ends early.

        A clip of less than two hops has too few latents to say anything, and is a bad file, too.
        """
        try:
            source = audio_source(self.rows[clip][self.audio_column])
            samples = clip_info(source, sampling_rate).num_frames
            if self.max_seconds is not None:
                samples = min(samples, round(self.max_seconds * sampling_rate))
            if samples < 2 * hop_length:
                raise AudioError(f"{samples} samples at {sampling_rate} Hz are less than two latent frames")
            number = math.ceil(samples / max(2 * hop_length, round(self.piece_seconds * sampling_rate)))
            size = math.ceil(samples / number / hop_length) * hop_length
            starts = range(0, samples, size)
            for start in starts:
                waveform = read_span(source, start, min(size, samples - start), sampling_rate)
                waveform = convert_channels(waveform, channels)
                yield Piece(clip, start, waveform, start == starts[-1])
        except (AudioError, OSError) as error:
            yield BadFile.from_error(self.name(clip), error)


def choose_clips(number: int, max_clips: int | None, seed: int) -> list[int]:
    """Rows to read: all, or `max_clips` of them drawn with `seed`, in the data set's order."""
    if max_clips is None or max_clips >= number:
        return list(range(number))
    return sorted(np.random.default_rng(seed).choice(number, max_clips, replace=False).tolist())
