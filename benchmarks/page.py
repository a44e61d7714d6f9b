"""docs/benchmarks.md, rendered from the JSON beside it and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from machine import FAST_BFLOAT16
from measurements import Measurement, read_json, read_measurements
from rows import ROWS
from table import DEVICES, NOTHING, aligned, markdown, quantity, whole_table
from targets import BFLOAT16, GPU, MAMBA, NOT_MET, TARGETS, overall_verdict, verdict
from tried import HELPS, read_tried

# Of the machine's cores, by others, while a row was measured: above it the row is marked.
BUSY = 0.05

INTRODUCTION = """\
# Benchmarks

`make bench` measures all of this side by side with its peers and renders this page; nothing here is \
written by hand. Each row runs in a process of its own, one after the other. It compares the outputs first \
and refuses to time what differs; calls take turns, and the table shows medians. *Of the rate* is the share \
of the speed of plain matrix products, measured in the same process in the same precision: the task's \
floating point operations, over the time, over that rate. The operations are those of the plain computation: \
minimal filtering of the convolutions, in float32 on a CPU, needs fewer and may pass 100%. Memory is the \
peak above the loaded weights, measured apart from the times. A ratio is how many times faster ours is, or, \
where less is asked for (≤), how many times as much it takes.
"""


class Page:
    """The measurements of a folder, and what they render to.

    Raises `ValueError` for a folder without any, or for a JSON file that is not of this version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = {name: folder / f"{name}.json" for name in ROWS}
        self.documents = {name: read_json(path) for name, path in paths.items() if path.is_file()}
        if not self.documents:
            raise ValueError(f"{str(folder)!r} holds no measurements yet: run benchmarks/bench.py first")
        self.measurements = {
            name: read_measurements(paths[name], document) for name, document in self.documents.items()
        }
        self.refused = {name: text for name, d in self.documents.items() if (text := d.get("error"))}
        self.missing = missing_parts(self.documents)

    @property
    def everything(self) -> list[Measurement]:
        return [measurement for row in self.measurements.values() for measurement in row]

    def verdicts(self) -> dict[str, str]:
        return {
            name: overall_verdict(name, self.everything, self.missing, target.row in self.refused)
            for name, target in TARGETS.items()
        }

    def console(self) -> str:
        """The one table, for a terminal."""
        return aligned(*whole_table(self.measurements, self.refused, self.missing))

    def render(self) -> str:
        parts = [
            INTRODUCTION,
            *self._warning(),
            "## The machine\n",
            *self._machines(),
            "\n## The table\n",
            markdown(*whole_table(self.measurements, self.refused, self.missing)),
            *(f"\n**{name}** did not measure: {text}" for name, text in self.refused.items()),
            "\n## Targets\n",
            markdown(("target", "against", "asked for", "on", "verdict"), self._targets()),
            *self._options(),
            *self._without_help(),
            "\n## How each row is measured\n",
            markdown(("row", "command", "setting", "outputs differ by at most", "minutes"), self._rows()),
            *self._remarks(),
        ]
        return "\n".join(parts) + "\n"

    def _warning(self) -> list[str]:
        tiny = any(document.get("origin", {}).get("tiny") for document in self.documents.values())
        return ["**Tiny models: a look at the command, no measurement.**\n"] if tiny else []

    def _machines(self) -> list[str]:
        """One description, or several where rows come from different machines or versions."""
        described: dict[str, list[str]] = {}
        for name, document in self.documents.items():
            described.setdefault(machine_text(document["machine"]), []).append(name)
        if len(described) == 1:
            text = next(iter(described))
            return [text, *self._rates()]
        return [*(f"- {text} ({', '.join(names)})" for text, names in described.items()), *self._rates()]

    def _rates(self) -> list[str]:
        """The fastest matrix products that any row has seen."""
        rates: dict[str, float] = {}
        for document in self.documents.values():
            for name, rate in document.get("rates", {}).items():
                rates[name] = max(rates.get(name, 0.0), rate)
        if not rates:
            return []
        listed = ", ".join(f"{rate / 1e9:.0f} GFLOP/s ({name})" for name, rate in rates.items())
        return [f"\nMatrix products, the best of all rows: {listed}."]

    def _targets(self) -> list[list[str]]:
        return [
            [
                TARGETS[name].what,
                TARGETS[name].peer_name,
                f"{TARGETS[name]}",
                DEVICES[TARGETS[name].device],
                text,
            ]
            for name, text in self.verdicts().items()
        ]

    def _option_results(self) -> list[dict[str, Any]]:
        return [option for document in self.documents.values() for option in document.get("options", [])]

    def _options(self) -> list[str]:
        results = self._option_results()
        if not results:
            return []
        header = (
            *("option", "how", "of", "device", "default", "with it", "ratio", "peak memory"),
            *("first call", "relative difference", "spectral distance"),
        )
        lines = [[r["option"], f"`{r['how']}`", r["subject"], r["device"], *option_cells(r)] for r in results]
        return ["\n## Options\n", markdown(header, lines)]

    def _without_help(self) -> list[str]:
        lines = [f"- {text}" for text in (*unhelpful_options(self._option_results()), *tried(self.folder))]
        return ["\n## What did not help\n", *(lines or ["Nothing is recorded here."])]

    def _rows(self) -> list[list[str]]:
        lines = []
        for name, document in self.documents.items():
            setting = ", ".join(
                f"{key.replace('_', ' ')} {value}" for key, value in document["setting"].items()
            )
            errors = [m.error for m in self.measurements[name] if m.error is not None]
            lines.append(
                [
                    ROWS[name].title,
                    f"`{document['command']}`",
                    setting or NOTHING,
                    f"{max(errors):.1e}" if errors else NOTHING,
                    f"{document['seconds'] / 60:.1f}",
                ]
            )
        return lines

    def _remarks(self) -> list[str]:
        remarks = [remark for document in self.documents.values() for remark in document.get("remarks", [])]
        lines = [f"- {remark}" for remark in remarks]
        busy = {
            name: share
            for name, document in self.documents.items()
            if (share := document.get("others_share")) is not None and share > BUSY
        }
        if busy:
            listed = ", ".join(f"{name} {share:.0%}" for name, share in busy.items())
            lines.append(f"- **The machine was not idle**; other work took of its cores: {listed}.")
        return ["", *lines, *self._limits()]

    def _limits(self) -> list[str]:
        """How far the targets that are not met are from what the machine could do at most."""
        limits = [
            f"{measurement.what}, {measurement.device}, {measurement.ratio / measurement.share:.2f}x"
            for measurement in self.everything
            if measurement.share and verdict(measurement) == NOT_MET and measurement.ratio > 1
        ]
        if not limits:
            return []
        return [f"- At the full rate of matrix products these would be at most: {'; '.join(limits)}."]


def missing_parts(documents: dict[str, dict[str, Any]]) -> set[str]:
    """What no machine of the rows has, of the needs that `targets` names."""
    machines = [document["machine"] for document in documents.values()]
    has_gpu = any(machine["gpu"] for machine in machines)
    there = {
        BFLOAT16: any(set(FAST_BFLOAT16) & set(machine["instructions"]) for machine in machines),
        GPU: has_gpu,
        MAMBA: has_gpu and bool(documents.get("context", {}).get("setting", {}).get("mamba_ssm")),
    }
    return {name for name, is_there in there.items() if not is_there}


def machine_text(machine: dict[str, Any]) -> str:
    """One sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    special = f" ({', '.join(machine['instructions'])})" if machine["instructions"] else ""
    gpu = f"; {machine['gpu']}, CUDA {machine['cuda']}" if machine["gpu"] else "; no GPU"
    return (
        f"{machine['usable_cores']} cores of {machine['cpu']}, {machine['architecture']}{special}, "
        f"{machine['memory_gib']:.0f} GiB{gpu}; {machine['system']}, Python {machine['python']}, {versions}."
    )


def option_cells(result: dict[str, Any]) -> list[str]:
    if result["reason"]:
        return [NOTHING] * 6 + [result["reason"]]
    return [
        f"{result['precision']}, {quantity(result['default_seconds'], 's')}",
        quantity(result["seconds"], "s"),
        f"{result['ratio']:.2f}x",
        f"{quantity(result['bytes'], 'B')} : {quantity(result['default_bytes'], 'B')}",
        quantity(result["first_call_seconds"], "s"),
        f"{result['error']:.1e}",
        f"{result['spectral_distance']:.3f}",
    ]


def unhelpful_options(results: Iterable[dict[str, Any]]) -> list[str]:
    """Options that make nothing faster and need no less memory, with their numbers."""
    return [
        f"{r['option']} (`{r['how']}`), {r['subject']}, {r['device']}: {r['ratio']:.2f}x the speed, "
        f"{r['bytes'] / max(r['default_bytes'], 1):.2f}x the memory."
        for r in results
        if not r["reason"] and r["ratio"] < HELPS and r["bytes"] > r["default_bytes"] / HELPS
    ]


def tried(folder: Path) -> list[str]:
    """Changes of the code that were measured and not kept."""
    return [
        f"{entry['change']}: {entry['what']} ({entry['device']}), "
        f"{quantity(entry['without'], entry['unit'])} without it, {quantity(entry['with'], entry['unit'])} "
        f"with it, {entry['ratio']:.2f}x."
        for entry in read_tried(folder)
    ]


def write_page(folder: Path) -> Path:
    """Write the page beside the folder of its JSON; returns its path."""
    target = folder.with_suffix(".md")
    text = Page(folder).render()
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)
    return target
