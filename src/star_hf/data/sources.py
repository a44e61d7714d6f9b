"""Any audio source of the Hugging Face ecosystem as a `datasets` object whose audio is left undecoded."""

import csv
import glob
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
from datasets import Audio, Dataset, Features, IterableDataset, Value, load_from_disk

from ..audio import AudioError
from .undecoded import UndecodedAudio, load_undecoded

AUDIO_EXTENSIONS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64")
TAR_EXTENSIONS = (".tar", ".tar.gz", ".tgz")
METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
# A stream is read, shuffled and shared out by shards; a folder has none of its own.
MAX_SHARDS = 128


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
    `label`) or with `metadata.csv`/`metadata.jsonl` and its `file_name` column; a Parquet file or a
    WebDataset tar, a folder of them, a pattern such as "shards/*.tar", or their address; a folder written by
    `Dataset.save_to_disk`; else the name of a Hub dataset. A folder named after `split` inside `source` is
    preferred to `source` itself, as audiofolder does.

    A tar names its columns after file extensions. The audio of its clips is found under "audio" when they
    have one audio file each, `txt` under "text", and every key of `json` as a column of its own.

    Raises `ValueError` when nothing is there, when a named column is missing, or holds no audio.
    """
    dataset = _open(str(source), split, config_name, streaming)
    dataset = _with_common_names(dataset, audio_column, text_column)
    columns = dataset.column_names
    for argument, column in (("audio_column", audio_column), ("text_column", text_column)):
        if column is not None and columns is not None and column not in columns:
            raise ValueError(
                f"{argument} {column!r} is not in {str(source)!r}; its columns are {', '.join(columns)}"
            )
    if dataset.features is None:
        return dataset
    _check_audio(dataset.features[audio_column], audio_column, str(source))
    if isinstance(dataset, IterableDataset):
        return dataset.cast_column(audio_column, UndecodedAudio())
    return dataset.cast_column(audio_column, Audio(decode=False))


def audio_source(value: Any) -> str | bytes:
    """What `star_hf.audio.read_audio` can open, from the value of an undecoded audio column.

    A file on the Hub or elsewhere on the net is fetched; `AudioError` names it when that fails.
    """
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if value is None:
        raise AudioError("the row has no audio")
    if isinstance(value, str) and "://" in value:
        try:
            with fsspec.open(value, "rb") as file:
                return file.read()
        # each protocol has its own errors
        except Exception as error:
            raise AudioError(f"{value}: cannot be fetched ({error})") from error
    return value


def audio_name(value: Any, row: int | str) -> str:
    """The file name of an undecoded audio value for messages, or its row where it has none."""
    path = value.get("path") if isinstance(value, dict) else value
    return path if isinstance(path, str) else f"row {row}"


def _open(source: str, split: str, config_name: str | None, streaming: bool) -> Dataset | IterableDataset:
    path = Path(source).expanduser()
    if path.exists():
        return _open_local(path, split, streaming)
    if "://" in source:
        return _open_files([source], streaming)
    if glob.has_magic(source):
        files = sorted(glob.glob(str(path), recursive=True))
        if not files:
            raise ValueError(f"no file matches the source {source!r}")
        return _open_files(files, streaming)
    if path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1:
        raise ValueError(f"source {source!r} does not exist")
    return load_undecoded(source, config_name, split=split, streaming=streaming)


def _open_local(path: Path, split: str, streaming: bool) -> Dataset | IterableDataset:
    if path.is_dir() and (path / split).is_dir():
        path = path / split
    if path.is_file() and path.name in METADATA_NAMES:
        return _from_rows(_metadata_rows(path), path, streaming)
    if path.is_file():
        return _open_files([str(path)], streaming)
    for name in METADATA_NAMES:
        if (path / name).is_file():
            return _from_rows(_metadata_rows(path / name), path, streaming)
    if (path / "dataset_info.json").is_file() and (path / "state.json").is_file():
        return _maybe_stream(load_from_disk(str(path)), streaming)
    files = sorted(path.rglob("*"))
    for extensions in ((".parquet",), TAR_EXTENSIONS):
        shards = [file for file in files if file.name.endswith(extensions)]
        if shards:
            named = [file for file in shards if file.name.startswith(split)]
            return _open_files([str(file) for file in named or shards], streaming)
    return _from_rows(list(_bare_rows(path, files)), path, streaming)


def _open_files(files: Sequence[str], streaming: bool) -> Dataset | IterableDataset:
    for builder, extensions in (("parquet", (".parquet",)), ("webdataset", TAR_EXTENSIONS)):
        if all(file.endswith(extensions) for file in files):
            return load_undecoded(builder, split="train", streaming=streaming, data_files=list(files))
    raise ValueError(
        f"source {files[0]!r} is neither a folder, a Parquet file, a tar, nor one of {METADATA_NAMES}"
    )


def _from_rows(rows: list[dict[str, Any]], path: Path, streaming: bool) -> Dataset | IterableDataset:
    if not rows:
        raise ValueError(
            f"no audio files ({', '.join(AUDIO_EXTENSIONS)}), no Parquet and no tar files in {str(path)!r}"
        )
    # from_list keeps the paths as they are: the audiofolder builder would want to decode them with torchcodec
    return _maybe_stream(Dataset.from_list(rows).cast_column("audio", Audio(decode=False)), streaming)


def _maybe_stream(dataset: Dataset, streaming: bool) -> Dataset | IterableDataset:
    return dataset.to_iterable_dataset(num_shards=min(MAX_SHARDS, len(dataset))) if streaming else dataset


def _check_audio(feature: Any, audio_column: str, source: str) -> None:
    files = isinstance(feature, Value) and feature.dtype.removeprefix("large_") in ("string", "binary")
    parts = isinstance(feature, dict) and set(feature) <= {"bytes", "path"}
    if not (isinstance(feature, Audio) or files or parts):
        raise ValueError(
            f"audio_column {audio_column!r} of {source!r} must hold audio files, their names or their bytes, "
            f"got {feature}"
        )


def _with_common_names(
    dataset: Dataset | IterableDataset, audio_column: str, text_column: str | None
) -> Dataset | IterableDataset:
    columns = dataset.features
    if columns is None or "__key__" not in columns:
        return dataset
    audio = [name for name, feature in columns.items() if isinstance(feature, Audio)]
    if audio_column == "audio" and "audio" not in columns and len(audio) == 1:
        dataset = dataset.rename_column(audio[0], "audio")
    if isinstance(columns.get("json"), dict):
        dataset = _with_json_keys(dataset)
    if text_column == "text" and "text" not in dataset.features and "txt" in columns:
        dataset = dataset.rename_column("txt", "text")
    return dataset


def _with_json_keys(dataset: Dataset | IterableDataset) -> Dataset | IterableDataset:
    features = dict(dataset.features)
    keys = {name: feature for name, feature in features.pop("json").items() if name not in features}
    if isinstance(dataset, IterableDataset):
        return dataset.map(_JsonKeys(list(keys)), remove_columns=["json"], features=Features(features | keys))
    # a column beside the table: the audio is not written anew
    values = dataset.select_columns(["json"])[:]["json"]
    for name, feature in keys.items():
        column = [value.get(name) if value is not None else None for value in values]
        dataset = dataset.add_column(name, column, feature=feature)
    return dataset.remove_columns("json")


class _JsonKeys:
    """The keys of a row's `json` as columns; a class, because workers may have to unpickle it."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: (row["json"] or {}).get(name) for name in self.names}


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


def _bare_rows(path: Path, files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for file in files:
        if file.suffix.lower() in AUDIO_EXTENSIONS and not file.name.startswith("."):
            name = str(file.relative_to(path))
            yield {
                "audio": str(file),
                "file_name": name,
                "label": file.parent.name if file.parent != path else "",
            }
