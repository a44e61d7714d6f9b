"""One dataset of a training run: what is trained on, and what is held out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from datasets import Dataset, IterableDataset

from .splits import HeldOutRows, split_for_validation


@dataclass
class TrainingSource:
    """A dataset's rows to train on, and those held out for validation.

    A stream in `training` still has the rows for which `is_held_out` is true: they are told as they come.
    """

    name: str
    weight: float
    training: Dataset | IterableDataset
    validation: Dataset | None
    is_held_out: HeldOutRows | None

    @classmethod
    def split(
        cls,
        dataset: Dataset | IterableDataset,
        columns: Sequence[str],
        *,
        name: str,
        weight: float,
        validation_fraction: float,
        validation_key: str,
    ) -> "TrainingSource":
        """Hold out the share `validation_fraction` by the column `validation_key`, and keep `columns`."""
        if isinstance(dataset, Dataset):
            training, validation = split_for_validation(
                dataset, validation_fraction, key_column=validation_key
            )
            return cls(name, weight, training, validation, None)
        rule = HeldOutRows(validation_fraction, validation_key)
        needed = [*columns, "__key__", *([validation_key] if validation_fraction > 0 else [])]
        known = dataset.column_names
        if known is not None:
            if validation_fraction > 0:
                rule(dict.fromkeys(known, ""))  # complains of a missing column
            needed = [column for column in dict.fromkeys(needed) if column in known]
            dataset = dataset.select_columns(needed)
        return cls(name, weight, dataset, None, rule)

    def held_out_rows(self, count: int) -> Iterator[dict[str, Any]]:
        """Up to `count` held-out rows: a random choice, or of a stream the first ones."""
        if self.is_held_out is not None and self.is_held_out.fraction == 0.0:
            return
        if isinstance(self.training, IterableDataset):
            yield from islice((row for row in self.training if self.is_held_out(row)), count)
        elif self.validation is not None:
            yield from self.validation.shuffle(seed=0).select(range(min(count, len(self.validation))))
