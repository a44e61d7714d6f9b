"""Folders that are complete or absent: training checkpoints and exported models."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import SafetensorError
from torch.distributed.checkpoint import CheckpointException

EXPORT_NAME = "export"
BEST_NAME = "best"
STATE_NAME = "run_state.json"
#: What a full disk or a folder without write permission makes the system, torch and safetensors raise.
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError, CheckpointException)
_PREFIX, _TEMPORARY, _OLD = "step_", ".incomplete-", ".replaced-"


class CheckpointError(RuntimeError):
    """A folder could not be written; what was there before is still there."""


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` on success, and vanishes on failure."""
    temporary = target.with_name(f"{_TEMPORARY}{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        publish(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish(temporary: Path, target: Path) -> None:
    """Give a finished folder its name, once it is on the disk; an older one of that name makes room."""
    _flush(temporary)
    if target.exists():
        old = target.with_name(f"{_OLD}{target.name}")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(target, old)
        os.rename(temporary, target)
        shutil.rmtree(old)
    else:
        os.rename(temporary, target)


def recover(folder: Path) -> None:
    """Undo what a killed process left half done in `folder`: unfinished folders go, replaced ones return."""
    for path in folder.glob(f"{_OLD}*"):
        target = path.with_name(path.name.removeprefix(_OLD))
        if target.exists():
            shutil.rmtree(path)
        else:
            os.rename(path, target)
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path)


def _flush(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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

    def save(self, state: dict[str, Any], write: Callable[[Path], None], accelerator: Accelerator) -> Path:
        """Let `write` fill a folder on every process, add `state`, name it, drop the oldest beyond `keep`.

        Raises `CheckpointError` on every process when one of them cannot write; the older checkpoints stay.
        """
        target = self.folder / f"{_PREFIX}{state['step']:08d}"
        temporary = target.with_name(f"{_TEMPORARY}{target.name}")

        def begin() -> None:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)

        def finish() -> None:
            (temporary / STATE_NAME).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
            publish(temporary, target)
            for old in self.complete()[: -self.keep]:
                doomed = old.with_name(f"{_TEMPORARY}{old.name}")
                os.rename(old, doomed)
                shutil.rmtree(doomed)

        try:
            on_main(accelerator, begin)
            together(accelerator, lambda: write(temporary))
            on_main(accelerator, finish)
        except CheckpointError as error:
            if accelerator.is_main_process:
                shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(f"cannot write checkpoint {str(target)!r}: {error}") from error
        return target


def together(accelerator: Accelerator, action: Callable[[], None]) -> None:
    """Run `action` on every process; if it fails on one, `CheckpointError` on all, so that none waits."""
    failure = None
    try:
        action()
    except WRITE_ERRORS as error:
        failure = error
    messages = [None if failure is None else f"{type(failure).__name__}: {failure}"]
    if accelerator.num_processes > 1:
        messages = gather_object(messages)
    message = next((message for message in messages if message is not None), None)
    if message is not None:
        raise CheckpointError(message) from failure


def on_main(accelerator: Accelerator, action: Callable[[], None]) -> None:
    """Run `action` on the main process, while the others wait for its outcome."""
    together(accelerator, action if accelerator.is_main_process else lambda: None)


def read_state(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / STATE_NAME).read_text(encoding="utf-8"))
