"""Whether the files of a folder are what their names say, before anybody downloads them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from .contents import AUDIO, LATENT_SHARDS, PICTURES, Contents
from .kinds import CONFIG, HEADS_FILE, LATENTS_FILE, PEFT_CONFIG, read_json_file
from .secrets import find_secret

#: What a card shows is small: it is loaded with the page.
MAX_MEDIA_BYTES = 10_000_000
#: Code that is nothing but a name of this library.
_REFERENCE = re.compile(r"\s*from star_hf import (\w+)( as \1)?\s*")


def check_file(file: Path, path: str, secrets: Collection[str] = ()) -> None:
    """Raise `ValueError` naming `path` for a file that is not what its suffix says, or holds a secret.

    Weights are looked at by their headers, other binary files by what reads them.
    """
    suffix = file.suffix.lower()
    if suffix in (*AUDIO, *PICTURES):
        check_media(file, path)
        if suffix == ".svg":
            check_text(file.read_bytes(), path, secrets)
    elif suffix == ".safetensors":
        _check_secrets(safetensors_header(file, path), f"the metadata of {path}", secrets)
    elif suffix == ".parquet":
        parquet_rows(file, path)
    elif suffix != ".model":
        check_text(file.read_bytes(), path, secrets)
        if suffix == ".json":
            read_json_file(file)
        if suffix == ".py" and not _REFERENCE.fullmatch(file.read_text(encoding="utf-8")):
            raise ValueError(
                f"{path}: is code; only a line such as `from star_hf import StarGenPipeline` is sent."
            )


def check_text(content: bytes, path: str, secrets: Collection[str] = ()) -> str:
    """The text in `content`. Raises `ValueError` where it is none, or where a secret stands in it."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text ({error}).") from error
    _check_secrets(text, path, secrets)
    return text


def check_media(file: Path, path: str) -> None:
    """Raise `ValueError` for sound or a picture that a page cannot show, or that is too large for one."""
    size = file.stat().st_size
    if file.suffix.lower() in AUDIO:
        from star_hf.audio import AudioError, audio_info

        try:
            info = audio_info(file)
        except AudioError as error:
            raise ValueError(f"{path}: the card shows it, but it does not play ({error})") from error
        if size > MAX_MEDIA_BYTES:
            raise ValueError(
                f"{path}: lasts {info.duration:,.0f} s, {size / 1e6:.0f} MB; what a card plays may have "
                f"{MAX_MEDIA_BYTES / 1e6:.0f} MB. Cut it, or save it as FLAC or Ogg."
            )
    elif size > MAX_MEDIA_BYTES:
        raise ValueError(
            f"{path}: has {size / 1e6:.0f} MB; a picture may have {MAX_MEDIA_BYTES / 1e6:.0f} MB."
        )


def safetensors_header(file: Path, path: str) -> str:
    """The metadata of a safetensors file as text. Raises `ValueError` when it is none, or not complete."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as tensors:
            return "\n".join(f"{key}: {value}" for key, value in (tensors.metadata() or {}).items())
    except SafetensorError as error:
        raise ValueError(f"{path}: is no complete safetensors file ({error}).") from error


def parquet_rows(file: Path, path: str) -> int:
    """Rows of a Parquet file. Raises `ValueError` when it is none, or not complete."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("Parquet files are read with pyarrow: pip install 'star-hf[train]'") from error
    try:
        return parquet.read_metadata(file).num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: is no complete Parquet file ({error}).") from error


def check_complete(folder: Path, contents: Contents, paths: Collection[str]) -> None:
    """Raise `ValueError` naming what is missing from `paths`, the files of the model in `folder`."""
    name = contents.kind.name
    if name == "latents":
        _check_latents(folder, sorted(path for path in paths if Path(path).match(LATENT_SHARDS)))
    elif name == "adapter":
        if PEFT_CONFIG in paths and "adapter_model.safetensors" not in paths:
            raise ValueError(f"{folder}: has {PEFT_CONFIG} but no adapter_model.safetensors.")
        if CONFIG not in paths:
            raise ValueError(f"{folder}: has {HEADS_FILE} but no {CONFIG}.")
    else:
        for component in contents.components:
            if not any(path.startswith(f"{component}/") for path in paths):
                raise ValueError(f"{folder}: model_index.json names {component}, which is not there.")
        for path in paths:
            if path.rpartition("/")[2] == CONFIG and not path.startswith("adapter/"):
                _check_weights(folder, path.rpartition("/")[0], paths)


def _check_weights(folder: Path, component: str, paths: Collection[str]) -> None:
    """Weights beside a configuration, all the shards that their index names."""
    prefix = f"{component}/" if component else ""
    here = {path.removeprefix(prefix) for path in paths if path.rpartition("/")[0] == component}
    if not any(name.endswith(".safetensors") for name in here):
        raise ValueError(f"{folder}: {prefix}{CONFIG} is there, but no weights in safetensors beside it.")
    for index in sorted(name for name in here if name.endswith(".json") and ".safetensors.index" in name):
        shards = set(read_json_file(folder / component / index).get("weight_map", {}).values())
        if missing := sorted(shards - here):
            raise ValueError(f"{folder}: {prefix}{index} names {', '.join(missing)}, not there.")


def _check_latents(folder: Path, shards: list[str]) -> None:
    info: Mapping[str, Any] = read_json_file(folder / LATENTS_FILE)
    rows = sum(parquet_rows(folder / shard, shard) for shard in shards)
    if rows != info.get("num_rows") or not shards:
        raise ValueError(
            f"{folder}: its {len(shards)} files {LATENT_SHARDS} have {rows} rows, {LATENTS_FILE} says "
            f"{info.get('num_rows')}: it is not complete."
        )


def _check_secrets(text: str, path: str, secrets: Collection[str]) -> None:
    if found := find_secret(text, secrets):
        raise ValueError(
            f"{path}: holds {found}; nothing is sent. Remove it, and withdraw it where it was issued."
        )
