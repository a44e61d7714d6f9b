"""What a run does with its averaged weights: validate, keep the best model, report, export."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator

from engine.checkpoints import BEST_NAME, EXPORT_NAME, WRITE_ERRORS, atomic_folder, on_main
from engine.optimization import AveragedWeights
from engine.run_log import RunLog, number
from engine.task import Task


class Evaluator:
    """Evaluates a task under its averaged weights; only the main process measures and writes.

    Args:
        folder: of the run.
        seed: of the random numbers in an evaluation, which leave those of the training as they are.
        best_metric: the validation value whose smallest one so far is kept; `None` for none.
    """

    def __init__(
        self,
        task: Task,
        average: AveragedWeights,
        accelerator: Accelerator,
        log: RunLog,
        folder: Path,
        seed: int,
        best_metric: str | None,
    ) -> None:
        self.task, self.average, self.accelerator, self.log = task, average, accelerator, log
        self.folder, self.seed, self.best_metric = folder, seed, best_metric
        self.best: float | None = None

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        device = self.accelerator.device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices), self.average.applied(), torch.no_grad():
            torch.manual_seed(self.seed)
            yield

    def validate(self, step: int) -> None:
        with self._averaged():
            if self.accelerator.is_main_process:
                values = self.task.validate(self.accelerator.device)
                if values:
                    self.log.record(step, {f"validation/{key}": value for key, value in values.items()})
                    text = " ".join(f"{name} {number(value)}" for name, value in values.items())
                    self.log.say(f"step {step} | validation | {text}")
                    self._keep_best(values)
        self.accelerator.wait_for_everyone()

    def _keep_best(self, values: dict[str, float]) -> None:
        if self.best_metric is None:
            return
        if self.best_metric not in values:
            raise ValueError(f"best_metric {self.best_metric!r} is none of {', '.join(values)}")
        value = values[self.best_metric]
        if not math.isfinite(value) or (self.best is not None and value >= self.best):
            return
        try:
            with atomic_folder(self.folder / BEST_NAME) as folder:
                self.task.export(folder)
            self.best = value
        except WRITE_ERRORS as error:
            self.log.say(f"warning: {BEST_NAME}/ could not be renewed, the one before stays: {error}")

    def report(self, step: int) -> None:
        with self._averaged():
            if self.accelerator.is_main_process:
                report = self.task.report(self.accelerator.device)
                if report is not None:
                    self.log.report(step, report)
        self.accelerator.wait_for_everyone()

    def export(self) -> None:
        """Renew the exported model. Raises `CheckpointError` on every process when it cannot be written."""

        def write() -> None:
            with atomic_folder(self.folder / EXPORT_NAME) as folder:
                self.task.export(folder)

        with self._averaged():
            on_main(self.accelerator, write)
