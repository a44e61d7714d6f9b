"""Files that are complete or not there at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_text(path: str | Path, text: str) -> Path:
    """Write a UTF-8 file in one step; its folder is made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def write_json(document: dict[str, Any], path: str | Path) -> Path:
    """Write a report. Raises `ValueError` for a number that JSON does not have (infinite, NaN)."""
    return write_text(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
