"""Audio columns that stay as they are stored: no decoder is needed to open, cast or stream them."""

from dataclasses import dataclass
from typing import Any

import datasets
from datasets import Audio, Dataset, Features, GeneratorBasedBuilder, IterableDataset


@dataclass
class UndecodedAudio(Audio):
    """`Audio(decode=False)` whose examples are passed on as they are; `Audio` asks for torchcodec even so."""

    decode: bool = False

    def encode_example(self, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return {"bytes": value.get("bytes"), "path": value.get("path")}
        if isinstance(value, (bytes, bytearray)):
            return {"bytes": bytes(value), "path": None}
        return {"bytes": None, "path": None if value is None else str(value)}


def load_undecoded(
    path: str,
    name: str | None = None,
    *,
    split: str,
    streaming: bool = False,
    data_files: list[str] | None = None,
    data_dir: str | None = None,
) -> Dataset | IterableDataset:
    """`datasets.load_dataset` whose audio columns are never decoded nor encoded."""
    options: dict[str, Any] = {"name": name, "data_files": data_files, "data_dir": data_dir}
    builder = datasets.load_dataset_builder(path, **options)
    if not streaming and not isinstance(builder, GeneratorBasedBuilder):
        return datasets.load_dataset(path, split=split, **options)
    # Builders of tar files and of audio folders know their columns only after a look into the first files.
    stream = datasets.load_dataset(path, split=split, streaming=True, **options)
    if stream.features is None:
        return stream if streaming else datasets.load_dataset(path, split=split, **options)
    features = Features(
        {
            column: UndecodedAudio() if isinstance(feature, Audio) else feature
            for column, feature in stream.features.items()
        }
    )
    if streaming:
        return stream.cast(features)
    return datasets.load_dataset(path, split=split, features=features, **options)
