"""Changes that were tried and measured: how a row's numbers were with them, and how they are without."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from measurements import Measurement, read_json, write_json

TRIED_NAME = "tried.json"
# Less is within what two runs of the same differ by.
HELPS = 1.05


def change(recorded: Measurement, with_change: Measurement) -> float:
    """How many times better a measurement becomes: faster, less memory, a higher rate."""
    better_if_less = recorded.unit in ("s", "B", "")
    return recorded.ours / with_change.ours if better_if_less else with_change.ours / recorded.ours


def remember(
    folder: Path, description: str, recorded: Iterable[Measurement], with_change: Iterable[Measurement]
) -> list[dict[str, object]]:
    """Add to `tried.json` what a change did to each measurement that both runs have; returns what is added.

    Raises `ValueError` when they have none in common.
    """
    before = {(m.place, m.device): m for m in recorded}
    entries = [
        {
            "change": description,
            "what": m.what,
            "device": m.device,
            "unit": m.unit,
            "without": before[m.place, m.device].ours,
            "with": m.ours,
            "ratio": change(before[m.place, m.device], m),
        }
        for m in with_change
        if (m.place, m.device) in before
    ]
    if not entries:
        raise ValueError(f"no measurement of {str(folder)!r} was measured again: nothing to hold it against")
    path = folder / TRIED_NAME
    write_json(path, {"entries": [*read_tried(folder), *entries]})
    return entries


def read_tried(folder: Path) -> list[dict[str, object]]:
    path = folder / TRIED_NAME
    return read_json(path)["entries"] if path.is_file() else []
