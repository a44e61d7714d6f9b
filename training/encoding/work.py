"""An unfinished latent dataset: which parts are there, who works on what, and what it is to become."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from star_hf.data import LatentInfo, LatentShard, LatentStatistics
from star_hf.data.latent_format import INFO_NAME

FAILURES_NAME = "failures.json"
#: The attributes of a dataset's description that say what it was made from.
PLAN_NAMES = ("vae_class", "vae_fingerprint", "dataset_fingerprint", "settings")


@dataclass
class PartRecord:
    """What is known of one part: clips that were read, rows written, sums, and what could not be read."""

    clips: int = 0
    audio_seconds: float = 0.0
    num_rows: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    statistics: dict[str, Any] = field(default_factory=dict)


class WorkFolder:
    """The folder beside `output` in which a latent dataset grows until it takes that name.

    A part is finished when its record is there, a unit when the number of its parts is. Every file appears
    whole or not at all: whatever kills the processes, the next ones go on with the units that are missing. A
    unit belongs to the process that makes its claim first; claims end with the processes.

        latents.incomplete/latents-00012.parquet
        latents.incomplete/state/{plan.json, parts/00012.json, units/00012.json, claims/00012, processes/}
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(f"{output.name}.incomplete")
        self.replaced = output.with_name(f"{output.name}.replaced")
        self.state = self.folder / "state"
        self.plan_path = self.state / "plan.json"
        self.processes = self.state / "processes"

    def plan(self) -> dict[str, Any] | None:
        """What the unfinished work was begun for; None where there is no such work."""
        if not self.plan_path.is_file():
            return None
        return json.loads(self.plan_path.read_text(encoding="utf-8"))

    def settle(self, plan: dict[str, Any], overwrite: bool) -> bool:
        """Whether the dataset of `plan` is there already, be it that it only lacks its name.

        Raises `ValueError` when another one is in its place, or was begun; `overwrite` allows to drop it, a
        finished one not before the new one is.
        """
        if self.replaced.exists() and not self.output.exists():  # killed while it was being replaced
            os.rename(self.replaced, self.output)
        there = _described_plan(self.output)
        if there is None and self.output.exists() and not _is_empty_folder(self.output):
            raise ValueError(
                f"output_dir {str(self.output)!r} is something else than latents: choose another"
            )
        if there == plan:
            return True
        if there is not None and not overwrite:
            raise ValueError(
                f"output_dir {str(self.output)!r} holds other latents: {differences(there, plan)}; "
                "--overwrite true replaces them once the new ones are complete"
            )
        there = _described_plan(self.folder) or self.plan()
        if there is not None and there != plan and not overwrite:
            raise ValueError(
                f"{str(self.folder)!r} holds other latents, unfinished: {differences(there, plan)}; "
                "--overwrite true discards them"
            )
        if _described_plan(self.folder) == plan:
            self.publish()
            return True
        return False

    def begin(self, plan: dict[str, Any]) -> None:
        """Start, or go on with, the work of `plan`; claims of processes that are gone are dropped."""
        if self.plan() != plan:
            self._discard()
        for name in ("claims", "processes"):
            shutil.rmtree(self.state / name, ignore_errors=True)
        for name in ("parts", "units", "claims", "processes"):
            (self.state / name).mkdir(parents=True, exist_ok=True)
        write_json(self.plan_path, plan)

    def _discard(self) -> None:
        # these first: a folder without them is never taken for work to go on with
        for path in (self.plan_path, self.folder / INFO_NAME):
            path.unlink(missing_ok=True)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def claim(self, unit: int) -> bool:
        """Whether the unit is unfinished and from now on this process's own."""
        if self.num_parts(unit) is not None:
            return False
        try:
            os.close(os.open(self.state / "claims" / f"{unit:05d}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def has_part(self, name: str) -> bool:
        return self._record_path(name).is_file()

    def finish_part(self, name: str, shard: LatentShard, record: PartRecord) -> None:
        if shard.rows:
            write_file(self.folder / f"latents-{name}.parquet", shard.write)
        write_json(self._record_path(name), asdict(record))

    def finish_unit(self, unit: int, num_parts: int) -> None:
        write_json(self.state / "units" / f"{unit:05d}.json", num_parts)

    def num_parts(self, unit: int) -> int | None:
        """The number of parts of a finished unit."""
        path = self.state / "units" / f"{unit:05d}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def finished_units(self) -> int:
        return len(list((self.state / "units").glob("*.json")))

    def part_names(self) -> list[str]:
        """Names of all finished parts, in the order of their rows."""
        return sorted(path.stem for path in (self.state / "parts").glob("*.json"))

    def record(self, name: str) -> PartRecord:
        values = json.loads(self._record_path(name).read_text(encoding="utf-8"))
        return PartRecord(**{**values, "failures": [tuple(failure) for failure in values["failures"]]})

    def _record_path(self, name: str) -> Path:
        return self.state / "parts" / f"{name}.json"

    def records(self) -> Iterator[PartRecord]:
        return (self.record(name) for name in self.part_names())

    def complete(self, info: LatentInfo) -> None:
        """Describe the finished dataset and give it its name; an older one of that name is replaced."""
        failures = [failure for record in self.records() for failure in record.failures]
        if failures:
            listing = [{"name": name, "reason": reason} for name, reason in failures]
            write_json(self.folder / FAILURES_NAME, listing)
        info.save(self.folder)
        self.publish()

    def publish(self) -> None:
        """Give a described dataset its name, without what only the work needed."""
        shutil.rmtree(self.state, ignore_errors=True)
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink()
        if self.output.exists():
            shutil.rmtree(self.replaced, ignore_errors=True)
            os.rename(self.output, self.replaced)
        os.rename(self.folder, self.output)
        shutil.rmtree(self.replaced, ignore_errors=True)


def _described_plan(folder: Path) -> dict[str, Any] | None:
    """What a described dataset was made from, as far as its description tells; None where there is none."""
    if not (folder / INFO_NAME).is_file():
        return None
    try:
        info = LatentInfo.load(folder)
    except ValueError:
        return {"description": "of another version"}
    return {name: getattr(info, name) for name in PLAN_NAMES}


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    """The entries of two plans that are not equal, as `name there, here`."""
    first, second = ({**plan, **plan.get("settings", {})} for plan in (there, here))
    names = [name for name in (*first, *(set(second) - set(first))) if name != "settings"]
    return ", ".join(
        f"{name} {_short(first.get(name))} there and {_short(second.get(name))} here"
        for name in names
        if first.get(name) != second.get(name)
    )


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) > 40 else repr(value)


def total_statistics(records: list[PartRecord], channels: int) -> LatentStatistics:
    """Sum in the order given, so that it does not matter which process made which part."""
    total = LatentStatistics(channels)
    for record in records:
        total.merge(LatentStatistics.from_dict(record.statistics))
    return total


def write_json(path: Path, value: Any) -> None:
    write_file(path, lambda temporary: temporary.write_text(json.dumps(value) + "\n", encoding="utf-8"))


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file that appears under `path` once it is whole and on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
