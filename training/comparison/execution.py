"""Running training scripts as processes of their own, several at a time, and stopping them with this one."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from comparison.recipes import ROOT, Run
from engine.run_log import clock

CONSOLE_NAME = "console.log"
LAST_LINES = 5
STOP_SECONDS = 120.0


class TrainingFailed(RuntimeError):
    """A training script ended with an error; the message names the run and its last lines."""


class Trainings:
    """Trains runs that are not finished yet, `jobs` at a time; each goes on from its last checkpoint."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.lock = threading.Lock()
        self.processes: list[subprocess.Popen] = []
        self.stopping = False

    def train(self, runs: Sequence[Run]) -> dict[str, str]:
        """Train them all; returns the failures by name, so that one does not keep the others from training.

        Raises `ValueError` before anything is trained when a folder holds a run of another plan. On Ctrl-C or
        SIGTERM the scripts under way save a checkpoint before this returns.
        """
        failures: dict[str, str] = {}
        for run in runs:
            run.check_plan()
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = {pool.submit(self._train, run): run for run in runs}
            try:
                for future in as_completed(futures):
                    try:
                        future.result()
                    except (TrainingFailed, OSError) as error:
                        failures[futures[future].name] = str(error)
                        print(f"{futures[future].name}: failed: {error}", flush=True)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._stop()
                raise
        return failures

    def _train(self, run: Run) -> None:
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

    def _run_script(self, run: Run) -> int:
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
