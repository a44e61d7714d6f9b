"""What a benchmark measures: lines of the one table, and the JSON that the page is rendered from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One line of the table, on one device.

    `ours` and `peer` are in `unit`: "s", "B" for bytes, "/s" for a rate, "" for a pure number. `ratio` is
    what the target is about: how many times faster ours is, or how many times as much it takes.

    Attributes:
        what: what was done; lines of the same `what` and `peer_name` stand side by side for CPU and GPU.
        peer_name: what it is held against.
        precision: of ours.
        device: "cpu" or "cuda".
        target: name in `targets.TARGETS`, if the line has one.
        flops: floating point operations that the task needs.
        share: of the rate of matrix products on the same device in the same precision.
        our_bytes, peer_bytes: peak memory above the weights.
        error: relative difference of the outputs, found before anything was timed; at most `tolerance`.
    """

    what: str
    peer_name: str
    precision: str
    device: str
    ours: float
    peer: float | None
    ratio: float
    unit: str = "s"
    target: str | None = None
    flops: float | None = None
    share: float | None = None
    our_bytes: int | None = None
    peer_bytes: int | None = None
    error: float | None = None
    tolerance: float | None = None

    @property
    def place(self) -> tuple[str, str]:
        """What is the same for a line's CPU and GPU."""
        return self.what, self.peer_name


def faster(what: str, peer_name: str, ours: float, peer: float, **others: Any) -> Measurement:
    """A measurement of seconds whose ratio says how many times faster ours is."""
    return Measurement(what=what, peer_name=peer_name, ours=ours, peer=peer, ratio=peer / ours, **others)


@dataclass
class Report:
    """What one benchmark found.

    Attributes:
        setting: its options, and what else the numbers depend on.
        rates: operations per second of matrix products, by "device precision".
        remarks: sentences for the page, each with its numbers.
        options: the lines of `options.py`.
        results: the lines of a benchmark's own table, where it prints one.
    """

    setting: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    options: list[Any] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    def rate(self, device: str, precision: str) -> float | None:
        return self.rates.get(f"{device} {precision}")

    def share(self, flops: float, seconds: float, device: str, precision: str) -> float | None:
        rate = self.rate(device, precision)
        return None if rate is None else flops / seconds / rate


def write_report(path: Path, report: Report, **others: Any) -> None:
    """As JSON, under a temporary name first; `others` are further entries."""
    write_json(path, {**others, **asdict(report)})


def write_json(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Raises `ValueError` that names the file where it is no JSON object."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{str(path)!r} must hold a JSON object")
    return document


def read_measurements(path: Path, document: dict[str, Any]) -> list[Measurement]:
    """Of a row's JSON; raises `ValueError` that names the file where they are not as this version writes."""
    try:
        return [Measurement(**values) for values in document.get("measurements", [])]
    except TypeError as error:
        raise ValueError(f"{str(path)!r} holds measurements of another version: {error}") from error
