"""From a dataset's row to what a training batch is made of, with every random choice tied to the sample."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from ..audio import AudioError, AudioInfo, audio_info, read_audio
from .bad_files import BadFile, TooManyBadFiles
from .sources import audio_name, audio_source

MAX_CONSECUTIVE_FAILURES = 32
NOISE_STREAM = 1  # an entropy word that keeps noise seeds apart from the numbers that choose the crops


class ItemReader(Protocol):
    """Makes an item from a row, drawing from `random` alone; `columns` are those of the row that it needs.

    Raises `AudioError` or `OSError` for audio that cannot be read, `UnwantedClip` for what is passed over.
    """

    columns: list[str]
    audio_column: str

    def __call__(self, row: Mapping[str, Any], random: np.random.Generator) -> dict[str, Any]: ...


class UnwantedClip(Exception):
    """A readable clip that the settings pass over; the message tells why."""


def noise_seed(*key: int) -> int:
    """A seed in [0, 2^63) for the noise of one sample, from what names it: (seed, epoch, index)."""
    return _derived(*key, NOISE_STREAM)


def source_seed(seed: int, number: int) -> int:
    """The seed of the `number`-th dataset of a mixture; that of the first is the mixture's own."""
    return seed if number == 0 else _derived(seed, number)


def read_item(
    reader: ItemReader, row: Mapping[str, Any], random: np.random.Generator, number: int | str, source: str
) -> dict[str, Any] | BadFile:
    """The row's item, or why there is none; `number` names a row whose audio has no name."""
    try:
        return reader(row, random)
    except (AudioError, OSError) as error:
        name = audio_name(row[reader.audio_column], row.get("__key__") or number)
        return BadFile.from_error(name, error, source)


def all_bad(failures: list[BadFile]) -> TooManyBadFiles:
    listing = "\n".join(f"  {failure.name}: {failure.reason}" for failure in failures)
    return TooManyBadFiles(f"{len(failures)} files in a row cannot be read:\n{listing}")


def clip_of(value: Any) -> str | bytes | torch.Tensor:
    """A path, encoded bytes, or a clip that has been decoded before."""
    return value if isinstance(value, torch.Tensor) else audio_source(value)


def clip_info(clip: str | bytes | torch.Tensor, sampling_rate: int) -> AudioInfo:
    """What a clip is once it is at `sampling_rate`; a decoded one is already."""
    if isinstance(clip, torch.Tensor):
        return AudioInfo(sampling_rate, clip.shape[0], clip.shape[-1])
    info = audio_info(clip)
    num_frames = info.num_frames * sampling_rate // info.sampling_rate
    return AudioInfo(sampling_rate, info.channels, num_frames)


def read_span(
    clip: str | bytes | torch.Tensor, start: int, num_samples: int, sampling_rate: int
) -> torch.Tensor:
    """Up to `num_samples` of a clip at `sampling_rate`, `(channels, samples)` float32, from `start` on."""
    if isinstance(clip, torch.Tensor):
        return clip[:, start : start + num_samples].float()
    waveform, _ = read_audio(
        clip,
        sampling_rate=sampling_rate,
        offset_in_s=start / sampling_rate,
        duration_in_s=num_samples / sampling_rate,
    )
    return waveform[:, :num_samples]


def collate_common(items: list[dict[str, Any]]) -> dict[str, Any]:
    """What every batch has: noise seeds, unreadable files, and of a stream the last item's position."""
    common: dict[str, Any] = {
        "noise_seed": torch.tensor([item["noise_seed"] for item in items], dtype=torch.int64),
        "failures": [failure for item in items for failure in item["failures"]],
    }
    if "position" in items[-1]:
        common["position"] = items[-1]["position"]
    return common


def _derived(*key: int) -> int:
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
