"""JSON files of measurements that name what is missing in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class MissingMeasurement(ValueError):
    """A card needs something that its measurements do not have."""


class Document(dict):
    """A JSON object that knows its file and its place in it.

    Asking for a key that it lacks raises `MissingMeasurement` with both, in Python as in a template; `get`
    and `in` work as ever.
    """

    def __init__(self, values: dict[str, Any], file: Path, place: str = "") -> None:
        super().__init__(
            {key: _wrapped(value, file, f"{place}.{key}" if place else key) for key, value in values.items()}
        )
        self._file, self._place = file, place

    def __missing__(self, key: object) -> Any:
        wanted = f"{self._place}.{key}" if self._place else str(key)
        raise MissingMeasurement(f"{self._file}: {wanted} is missing, and the card needs it")


def read_document(file: Path) -> Document:
    """The JSON object in `file`.

    Raises `ValueError` that names the file when it holds none, or NaN or infinity, which are no JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number that a card can show")

    try:
        values = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
    except ValueError as error:
        raise ValueError(f"{file}: is not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file}: must hold a JSON object, not {type(values).__name__}")
    return Document(values, file)


def read_if_there(file: Path) -> Document | None:
    """`read_document`, or None where there is no file."""
    return read_document(file) if file.is_file() else None


def _wrapped(value: Any, file: Path, place: str) -> Any:
    if isinstance(value, dict):
        return Document(value, file, place)
    if isinstance(value, list):
        return [_wrapped(item, file, f"{place}[{index}]") for index, item in enumerate(value)]
    return value
