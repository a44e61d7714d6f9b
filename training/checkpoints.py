"""Folders that are complete or absent: training checkpoints and exported models."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXPORT_NAME = "export"
STATE_NAME = "run_state.json"
_PREFIX, _TEMPORARY = "step_", ".incomplete-"


@contextmanager
def atomic_folder(target: Path):
    """Yield an empty folder that takes the place of `target` on success, and vanishes on failure."""
    temporary = target.with_name(f"{_TEMPORARY}{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if target.exists():
            discard(target, lambda: os.rename(temporary, target))
        else:
            os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def discard(folder: Path, between: Callable[[], None] = lambda: None) -> None:
    """Remove a folder, never leaving a part of it under its name; `between` runs once the name is free."""
    doomed = folder.with_name(f"{_TEMPORARY}old-{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(folder, doomed)
    between()
    shutil.rmtree(doomed)


class Checkpoints:
    """The checkpoints `step_00001000`, … of one run, of which the last `keep` are kept."""

    def __init__(self, folder: Path, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"keep_last must be at least 1, got {keep}")
        self.folder = folder
        self.keep = keep

    def complete(self) -> list[Path]:
        """All complete checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob(f"{_PREFIX}*") if (path / STATE_NAME).is_file())

    def latest(self) -> Path | None:
        return next(reversed(self.complete()), None)

    def save(self, state: dict[str, Any], write: Callable[[Path], None]) -> Path:
        """Let `write` fill a folder, add `state`, give it its name, then drop the oldest beyond `keep`."""
        target = self.folder / f"{_PREFIX}{state['step']:08d}"
        with atomic_folder(target) as temporary:
            write(temporary)
            (temporary / STATE_NAME).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        for old in self.complete()[: -self.keep]:
            discard(old)
        return target

    def remove_incomplete(self) -> None:
        """Remove what a killed process left behind."""
        for path in self.folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(path)


def read_state(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / STATE_NAME).read_text(encoding="utf-8"))
