"""The one table: a line for each task, CPU and GPU side by side, with verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from measurements import Measurement
from rows import ROWS
from targets import TARGETS, overall_verdict, verdict

NOTHING = "–"
HEAD = ("what", "against")
COLUMNS = (
    "precision",
    "ours",
    "peer",
    "ratio",
    "of the rate",
    "peak memory, ours : peer",
    "target",
    "verdict",
)
DEVICES = {"cpu": "CPU", "cuda": "GPU"}


def quantity(value: float | None, unit: str) -> str:
    """Three digits of seconds, bytes, a rate, or a pure number."""
    if value is None:
        return NOTHING
    if unit == "B":
        return f"{value / 2**30:.2f} GiB" if abs(value) >= 2**30 else f"{value / 2**20:.1f} MiB"
    if unit == "s" and value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g}{' ' if unit == 's' else ''}{unit}"


def ratio(measurement: Measurement) -> str:
    target = TARGETS.get(measurement.target or "")
    if target is not None and target.unit == "%":
        return f"{measurement.ratio:.1%}"
    if measurement.unit == "":
        return f"{measurement.ratio:.3g}"
    return f"{measurement.ratio:.2f}x"


def cells(measurement: Measurement | None) -> list[str]:
    """The columns of one device."""
    if measurement is None:
        return [NOTHING] * len(COLUMNS)
    m = measurement
    memory = f"{quantity(m.our_bytes, 'B')} : {quantity(m.peer_bytes, 'B')}"
    return [
        m.precision,
        quantity(m.ours, m.unit),
        quantity(m.peer, m.unit),
        ratio(m),
        NOTHING if m.share is None else f"{m.share:.0%}",
        NOTHING if m.our_bytes is None else memory,
        str(TARGETS[m.target]) if m.target else NOTHING,
        verdict(m) or NOTHING,
    ]


def without_measurement(name: str, state: str) -> list[str]:
    """The columns of a target's device for which there is no number."""
    return [NOTHING] * (len(COLUMNS) - 2) + [str(TARGETS[name]), state]


def make_table(
    measurements: Iterable[Measurement], devices: Sequence[str] = ("cpu",)
) -> tuple[list[str], list[list[str]]]:
    """Header and lines of what was measured, in its order; lines of the same task become one."""
    header = list(HEAD)
    for device in devices:
        prefix = "" if len(devices) == 1 else f"{DEVICES[device]}: "
        header += [prefix + column for column in COLUMNS]
    places: dict[tuple[str, str], dict[str, Measurement]] = {}
    for measurement in measurements:
        places.setdefault(measurement.place, {})[measurement.device] = measurement
    lines = [
        [*place, *(cell for device in devices for cell in cells(found.get(device)))]
        for place, found in places.items()
    ]
    return header, lines


def whole_table(
    measurements: dict[str, list[Measurement]], refused: Iterable[str], missing: set[str]
) -> tuple[list[str], list[list[str]]]:
    """Header and lines of all rows in the order of `ROWS`, and of the targets that have no number.

    Args:
        measurements: of each row.
        refused: rows that did not measure, because outputs differed or something failed.
        missing: what the machine does not have, of the needs that `targets` names.
    """
    everything = [measurement for row in measurements.values() for measurement in row]
    devices = [device for device in DEVICES if any(m.device == device for m in everything)] or ["cpu"]
    refused, lines = set(refused), []
    header, _ = make_table([], devices)
    for row in ROWS:
        found = measurements.get(row, [])
        lines += make_table(found, devices)[1]
        for name, target in TARGETS.items():
            if target.row != row or any(measurement.target == name for measurement in found):
                continue
            state = overall_verdict(name, everything, missing, row in refused)
            line = [target.what, target.peer_name]
            shown = target.device if target.device in devices else devices[0]
            for device in devices:
                line += without_measurement(name, state) if device == shown else cells(None)
            lines.append(line)
    return header, lines


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = ["|".join(["", *(f" {cell} " for cell in line), ""]) for line in [header, *lines]]
    rows.insert(1, "|---" * len(header) + "|")
    return "\n".join(rows)


def aligned(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """The same for a terminal."""
    rows = [list(header), *(list(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def console_table(measurements: Sequence[Measurement]) -> str:
    """Of one benchmark, for its own output."""
    devices = [device for device in DEVICES if any(m.device == device for m in measurements)] or ["cpu"]
    return aligned(*make_table(measurements, devices))
