"""Running training scripts as processes of their own, several at a time, and stopping them with this one."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

from engine.run_log import clock
from study.runs import ROOT

CONSOLE_NAME = "console.log"
LAST_LINES = 5
STOP_SECONDS = 120.0


class Training(Protocol):
    """What can be trained by a script of its own: `study.runs.Run`, or the generators of a probe."""

    @property
    def name(self) -> str: ...

    @property
    def folder(self) -> Path:
        """Where its console output is kept."""

    @property
    def script(self) -> str:
        """A file of `training/`."""

    @property
    def argv(self) -> list[str]: ...

    @property
    def command(self) -> str:
        """What a reader would type."""

    @property
    def steps(self) -> int: ...

    @property
    def after(self) -> str | None:
        """The name of the one that must be finished first."""

    def check_plan(self) -> None:
        """Raise `ValueError` when its folder holds something else."""

    def begin(self) -> None:
        """Make its folder."""

    def is_finished(self) -> bool: ...


class TrainingFailed(RuntimeError):
    """A training script ended with an error; the message names the run and its last lines."""


class Trainings:
    """Trains runs that are not finished yet, `jobs` at a time; each goes on from its last checkpoint."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.lock = threading.Lock()
        self.processes: list[subprocess.Popen] = []
        self.stopping = False

    def train(self, runs: Sequence[Training]) -> dict[str, str]:
        """Train them all; returns the failures by name, so that one does not keep the others from training.

        They begin in the order given, except that a run waits for the one that it comes `after` and lets
        later ones go first. Raises `ValueError` before anything is trained when a folder holds a run of
        another plan. On Ctrl-C or SIGTERM the scripts under way save a checkpoint before this returns.
        """
        failures: dict[str, str] = {}
        for run in runs:
            run.check_plan()
        waiting, unfinished = list(runs), {run.name for run in runs}
        with ThreadPoolExecutor(self.jobs) as pool:
            futures: dict[Future, Training] = {}
            try:
                while waiting or futures:
                    ready = [run for run in waiting if run.after not in unfinished]
                    for run in ready[: self.jobs - len(futures)]:
                        waiting.remove(run)
                        futures[pool.submit(self._train, run, failures.get(run.after))] = run
                    for future in wait(futures, return_when=FIRST_COMPLETED).done:
                        run = futures.pop(future)
                        unfinished.remove(run.name)
                        try:
                            future.result()
                        except (TrainingFailed, OSError) as error:
                            failures[run.name] = str(error)
                            print(f"{run.name}: failed: {error}", flush=True)
            except BaseException:
                self._stop()
                raise
        return failures

    def _train(self, run: Training, without_start: str | None) -> None:
        if without_start is not None:
            raise TrainingFailed(f"{run.after} failed: {without_start}")
        if run.is_finished():
            print(f"{run.name}: already trained, {run.steps} steps", flush=True)
            return
        print(f"{run.name}: {run.command}", flush=True)
        started = time.monotonic()
        code = self._run_script(run)
        if self.stopping:
            return
        if code != 0 or not run.is_finished():
            raise TrainingFailed(f"exit code {code}: {_last_lines(run.folder / CONSOLE_NAME)}")
        print(f"{run.name}: trained in {clock(time.monotonic() - started)}", flush=True)

    def _run_script(self, run: Training) -> int:
        """The script's exit code."""
        run.begin()
        with (run.folder / CONSOLE_NAME).open("ab") as console:
            with self.lock:
                process = subprocess.Popen(
                    [sys.executable, str(ROOT / "training" / run.script), *run.argv],
                    stdout=console,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # a second Ctrl-C would end it without a checkpoint
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                )
                self.processes.append(process)
                if self.stopping:
                    process.terminate()
            return process.wait()

    def _stop(self) -> None:
        """Ask all to save a checkpoint and end."""
        with self.lock:
            self.stopping = True
            running = [process for process in self.processes if process.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _last_lines(file: Path) -> str:
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return " | ".join(line.strip() for line in lines[-LAST_LINES:] if line.strip()) or "no output"
