"""Which clips of a dataset are held out for validation."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset

from .sources import audio_name


def split_for_validation(
    dataset: Dataset, fraction: float, *, key_column: str, seed: int = 0
) -> tuple[Dataset, Dataset | None]:
    """Split off the share `fraction` of the values of `key_column` (at least one value when `fraction` > 0).

    Clips that share a value (cuts of one recording, for instance) land on the same side. The values are
    ordered by their hash, so the split depends neither on the row order nor on the machine.
    Returns the training part and the validation part, `None` for a `fraction` of 0.
    """
    _check_fraction(fraction)
    if fraction == 0.0:
        return dataset, None
    if key_column not in dataset.column_names:
        raise ValueError(
            f"validation key column {key_column!r} is not in the dataset, "
            f"which has {', '.join(dataset.column_names)}"
        )
    keys = _keys(dataset, key_column)
    distinct = sorted(set(keys), key=lambda key: _hash(key, seed))
    count = math.ceil(fraction * len(distinct))
    if count >= len(distinct):
        raise ValueError(
            f"a validation fraction of {fraction} leaves nothing to train on: "
            f"{key_column!r} has {len(distinct)} distinct values"
        )
    held_out = set(distinct[:count])
    training = [index for index, key in enumerate(keys) if key not in held_out]
    validation = [index for index, key in enumerate(keys) if key in held_out]
    return dataset.select(training), dataset.select(validation)


@dataclass(frozen=True)
class HeldOutRows:
    """Whether a row of a stream is held out: when the hash of its key falls below the share `fraction`.

    The key is the value of `key_column`; of an audio column it is the file's name, or the encoded audio
    itself where there is none. Nothing has to be known of other rows, so the share is met only on average.
    Calling it with a row raises `ValueError` when the column is not there.
    """

    fraction: float
    key_column: str
    seed: int = 0

    def __post_init__(self) -> None:
        _check_fraction(self.fraction)

    def __call__(self, row: Mapping[str, Any]) -> bool:
        if self.fraction == 0.0:
            return False
        if self.key_column not in row:
            raise ValueError(
                f"validation key column {self.key_column!r} is not in the dataset, which has {', '.join(row)}"
            )
        value = row[self.key_column]
        if isinstance(value, dict) and value.get("path") is None:
            key = hashlib.sha256(value.get("bytes") or b"").hexdigest()
        else:
            key = _key(value, 0)
        return int.from_bytes(_hash(key, self.seed)[:8], "big") < self.fraction * 2**64


def _check_fraction(fraction: float) -> None:
    if not 0.0 <= fraction < 1.0:
        raise ValueError(f"validation fraction must be at least 0 and less than 1, got {fraction}")


def _hash(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


def _keys(dataset: Dataset, column: str) -> list[str]:
    if not isinstance(dataset.features[column], Audio):
        return [_key(value, index) for index, value in enumerate(dataset[column])]
    # only the names: the encoded audio beside them may be larger than the memory
    paths: list[str | None] = []
    for table in dataset.select_columns([column]).with_format("arrow").iter(batch_size=1000):
        for chunk in table[column].chunks:
            paths += chunk.field("path").to_pylist()
    return [_key({"path": path}, index) for index, path in enumerate(paths)]


def _key(value: Any, index: int) -> str:
    # the file's own name, so that moving the dataset to another folder does not change the split
    return Path(audio_name(value, index)).name if isinstance(value, dict) else str(value)
