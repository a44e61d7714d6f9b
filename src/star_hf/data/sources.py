"""Any audio source of the Hugging Face ecosystem as a `datasets` object whose audio is left undecoded."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Audio, Dataset, IterableDataset, load_dataset, load_from_disk

AUDIO_EXTENSIONS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64")
METADATA_NAMES = ("metadata.csv", "metadata.jsonl")


def load_audio_dataset(
    source: str | Path,
    split: str = "train",
    *,
    audio_column: str = "audio",
    text_column: str | None = None,
    config_name: str | None = None,
    streaming: bool = False,
) -> Dataset | IterableDataset:
    """Open a dataset with an audio column, without decoding any audio.

    `source` is one of: a folder of audio files, bare (a file in a sub-folder gets that folder's name as its
    `label`) or with `metadata.csv`/`metadata.jsonl` and its `file_name` column; a folder of Parquet files or
    one such file; a folder written by `Dataset.save_to_disk`; else the name of a Hub dataset. A folder named
    after `split` inside `source` is preferred to `source` itself, as audiofolder does.

    Raises `ValueError` when nothing is there, or when a named column is missing.
    """
    path = Path(source).expanduser()
    if path.exists():
        dataset = _open_local(path, split)
        if streaming and isinstance(dataset, Dataset):
            dataset = dataset.to_iterable_dataset(num_shards=min(16, max(1, len(dataset))))
    elif path.is_absolute() or str(source).startswith((".", "~")) or str(source).count("/") > 1:
        raise ValueError(f"source {str(source)!r} does not exist")
    else:
        dataset = load_dataset(str(source), config_name, split=split, streaming=streaming)

    columns = dataset.column_names
    for argument, column in (("audio_column", audio_column), ("text_column", text_column)):
        if column is not None and columns is not None and column not in columns:
            raise ValueError(
                f"{argument} {column!r} is not in {str(source)!r}; its columns are {', '.join(columns)}"
            )
    if dataset.features is None or isinstance(dataset.features[audio_column], Audio):
        dataset = dataset.cast_column(audio_column, Audio(decode=False))
    return dataset


def audio_source(value: Any) -> str | bytes:
    """What `star_hf.audio.read_audio` can open, from the value of an undecoded audio column."""
    if isinstance(value, dict):
        return value["bytes"] if value.get("bytes") is not None else value["path"]
    return value


def audio_name(value: Any, row: int | str) -> str:
    """The file name of an undecoded audio value for messages, or its row where it has none."""
    path = value.get("path") if isinstance(value, dict) else value
    return path if isinstance(path, str) else f"row {row}"


def _open_local(path: Path, split: str) -> Dataset:
    if path.is_dir() and (path / split).is_dir():
        path = path / split
    if path.is_file() and path.suffix == ".parquet":
        return _open_parquet([path])
    if path.is_file() and path.name in METADATA_NAMES:
        return _from_rows(_metadata_rows(path), path)
    if path.is_file():
        raise ValueError(
            f"source {str(path)!r} is neither a folder, a Parquet file, nor one of {METADATA_NAMES}"
        )
    for name in METADATA_NAMES:
        if (path / name).is_file():
            return _from_rows(_metadata_rows(path / name), path)
    if (path / "dataset_info.json").is_file() and (path / "state.json").is_file():
        return load_from_disk(str(path))
    parquet = sorted(path.rglob("*.parquet"))
    if parquet:
        named = [file for file in parquet if file.name.startswith(split)]
        return _open_parquet(named or parquet)
    return _from_rows(list(_bare_rows(path)), path)


def _open_parquet(files: list[Path]) -> Dataset:
    return load_dataset("parquet", data_files=[str(file) for file in files], split="train")


def _from_rows(rows: list[dict[str, Any]], path: Path) -> Dataset:
    if not rows:
        raise ValueError(
            f"no audio files ({', '.join(AUDIO_EXTENSIONS)}) and no Parquet files in {str(path)!r}"
        )
    # from_list keeps the paths as they are: the audiofolder builder would want to decode them with torchcodec
    return Dataset.from_list(rows).cast_column("audio", Audio(decode=False))


def _metadata_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
        else:
            rows = [json.loads(line) for line in file if line.strip()]
    for number, row in enumerate(rows, start=1):
        if not row.get("file_name"):
            raise ValueError(f"row {number} of {str(path)!r} has no file_name")
    return [
        {
            "audio": str(path.parent / row["file_name"]),
            **{k: v for k, v in row.items() if k not in ("audio", None)},
        }
        for row in rows
    ]


def _bare_rows(path: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in AUDIO_EXTENSIONS and not file.name.startswith("."):
            name = str(file.relative_to(path))
            yield {
                "audio": str(file),
                "file_name": name,
                "label": file.parent.name if file.parent != path else "",
            }
