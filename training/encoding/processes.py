"""The processes that encode together: they meet once, then each tells that it lives and how far it is."""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from encoding.work import write_json
from engine.run_log import clock

T = TypeVar("T")
#: How long the others may wait while the main process looks through the dataset.
MEETING_TIMEOUT = timedelta(hours=6)
BEAT_SECONDS = 2.0
LOST_AFTER_SECONDS = 120.0


class ProcessLost(RuntimeError):
    """A process of the run has ended, or does not answer any more."""


def join_processes() -> PartialState:
    """The processes that `accelerate launch` or torchrun started, or this one alone."""
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    use_cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true")
    # without `cpu`, accelerate takes processes on a machine without accelerators for one alone each
    cpu = use_cpu or (launched and not torch.accelerator.is_available())
    return PartialState(cpu=cpu, **({"timeout": MEETING_TIMEOUT} if launched else {}))


def from_main(state: PartialState, make: Callable[[], T]) -> T:
    """What the main process makes, on every process; if it fails, `ValueError` there, and the others end.

    The processes need each other only here: afterwards each goes on, and ends, at its own pace.
    """
    outcome: list = [None, None]
    if state.is_main_process:
        try:
            outcome[0] = make()
        except (ValueError, OSError) as error:
            outcome[1] = str(error)
    if state.num_processes > 1:
        broadcast_object_list(outcome)
        torch.distributed.destroy_process_group()
    if outcome[1] is not None:
        raise ValueError(outcome[1]) if state.is_main_process else SystemExit(1)
    return outcome[0]


@dataclass
class Progress:
    """What a process has done since it started; `state` is "works", "done", or why it stopped."""

    clips: int = 0
    audio_seconds: float = 0.0
    waited: float = 0.0
    seconds: float = 0.0
    state: str = "works"
    beat: int = 0


class Heartbeat:
    """Writes a process's progress every few seconds for the main process to see, from a thread of its own."""

    def __init__(self, folder: Path, index: int) -> None:
        self.progress = Progress()
        self.path = progress_path(folder, index)
        self.started = time.monotonic()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._write()
        self.thread.start()
        return self

    def begin_work(self) -> Progress:
        """The progress to write to; its clock starts now."""
        self.started = time.monotonic()
        return self.progress

    def __exit__(self, kind, error, traceback) -> None:
        self.progress.state = "done" if error is None else str(error) or kind.__name__
        self.stopped.set()
        self.thread.join()
        self._write()

    def _run(self) -> None:
        while not self.stopped.wait(BEAT_SECONDS):
            self._write()

    def _write(self) -> None:
        self.progress.beat += 1
        self.progress.seconds = time.monotonic() - self.started
        try:
            write_json(self.path, asdict(self.progress))
        except OSError:
            # gone, once the main process has named the folder; what fails elsewhere stops the encoding itself
            pass


def progress_path(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.json"


@dataclass
class ProcessWatch:
    """The progress of all processes, as their heartbeats tell it."""

    folder: Path
    num_processes: int
    lost_after: float = LOST_AFTER_SECONDS
    seen: dict[int, tuple[int, float]] = field(default_factory=dict)

    def look(self) -> list[Progress]:
        """What each process has done; `ProcessLost` names one that failed or has been silent for too long."""
        now = time.monotonic()
        all_progress = []
        for index in range(self.num_processes):
            path = progress_path(self.folder, index)
            progress = Progress(state="")
            if path.is_file():
                progress = Progress(**json.loads(path.read_text(encoding="utf-8")))
            if progress.state not in ("", "works", "done"):
                raise ProcessLost(f"process {index} stopped: {progress.state}")
            beat, since = self.seen.setdefault(index, (progress.beat, now))
            if beat != progress.beat:
                self.seen[index] = (progress.beat, now)
            elif progress.state != "done" and now - since > self.lost_after:
                raise ProcessLost(f"process {index} has given no sign of life for {clock(now - since)}")
            all_progress.append(progress)
        return all_progress
