"""Which clips of a dataset are held out for validation."""

import hashlib
import math
from pathlib import Path
from typing import Any

from datasets import Dataset

from .sources import audio_name


def split_for_validation(
    dataset: Dataset, fraction: float, *, key_column: str, seed: int = 0
) -> tuple[Dataset, Dataset | None]:
    """Split off the share `fraction` of the values of `key_column` (at least one value when `fraction` > 0).

    Clips that share a value (cuts of one recording, for instance) land on the same side. The values are
    ordered by their hash, so the split depends neither on the row order nor on the machine.
    Returns the training part and the validation part, `None` for a `fraction` of 0.
    """
    if not 0.0 <= fraction < 1.0:
        raise ValueError(f"validation fraction must be at least 0 and less than 1, got {fraction}")
    if fraction == 0.0:
        return dataset, None
    if key_column not in dataset.column_names:
        raise ValueError(
            f"validation key column {key_column!r} is not in the dataset, "
            f"which has {', '.join(dataset.column_names)}"
        )
    keys = [_key(value, index) for index, value in enumerate(dataset[key_column])]
    distinct = sorted(set(keys), key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
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


def _key(value: Any, index: int) -> str:
    # the file's own name, so that moving the dataset to another folder does not change the split
    return Path(audio_name(value, index)).name if isinstance(value, dict) else str(value)
