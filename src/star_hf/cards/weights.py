"""Sizes of safetensors files, from their headers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from .kinds import read_config


@dataclass(frozen=True)
class Weights:
    """How many numbers a set of weights has, its size on disk, and its data types."""

    parameters: int
    size_in_bytes: int
    dtypes: tuple[str, ...]


def measure_weights(folder: Path) -> Weights:
    """The weights of one model in `folder`; variants such as `*.fp16.safetensors` do not count."""
    headers = [_read_header(file) for file in _weight_files(folder)]
    return Weights(
        parameters=sum(header.parameters for header in headers),
        size_in_bytes=sum(header.size_in_bytes for header in headers),
        dtypes=tuple(sorted({dtype for header in headers for dtype in header.dtypes})),
    )


def _weight_files(folder: Path) -> list[Path]:
    for index in sorted(folder.glob("*.safetensors.index.json")):
        shards = read_config(index).get("weight_map", {}).values()
        return [folder / shard for shard in sorted(set(shards))]
    for name in ("diffusion_pytorch_model.safetensors", "model.safetensors"):
        if (folder / name).is_file():
            return [folder / name]
    return sorted(folder.glob("*.safetensors"))


def _read_header(file: Path) -> Weights:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as tensors:
            slices = [tensors.get_slice(key) for key in tensors.keys()]
    except SafetensorError as error:
        raise ValueError(f"{file}: is not a safetensors file ({error})") from None
    return Weights(
        parameters=sum(math.prod(tensor.get_shape()) for tensor in slices),
        size_in_bytes=file.stat().st_size,
        dtypes=tuple(sorted({tensor.get_dtype() for tensor in slices})),
    )
