"""The training loop that every script shares."""

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn

from arguments import parse_arguments
from checkpoints import EXPORT_NAME, STATE_NAME, Checkpoints, atomic_folder, read_state
from run_log import RunLog, clock, fail, number, progress_line
from run_setup import TrainingArguments, start_run
from schedules import learning_rate_factor
from star_hf.data import BadFiles, TooManyBadFiles


@dataclass
class StepOutput:
    """One batch's losses (unweighted, named as their weights), the audio it held, other numbers to log."""

    losses: dict[str, torch.Tensor]
    audio_seconds: float
    metrics: dict[str, torch.Tensor | float] = field(default_factory=dict)


class Task(Protocol):
    """What a script defines: its module, data, losses, validation and export."""

    module: nn.Module
    loss_weights: dict[str, float]
    bad_files: BadFiles

    def batches(self, start: int, rank: int, world_size: int) -> Iterable[dict[str, Any]]:
        """Endless batches, from the `start`-th on; `failures` lists files that could not be read."""

    def compute(self, module: nn.Module, batch: dict[str, Any], step: int) -> StepOutput: ...

    def validate(self, device: torch.device) -> dict[str, float]: ...

    def export(self, folder: Path) -> None: ...


class Trainer:
    """Trains `task.module` until the budget of steps or minutes is used up, or a signal asks to stop."""

    def __init__(
        self, arguments: TrainingArguments, task: Task, accelerator: Accelerator, log: RunLog
    ) -> None:
        self.arguments, self.task, self.accelerator, self.log = arguments, task, accelerator, log
        self.folder = Path(arguments.output_dir)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", arguments.keep_last)
        self.step, self.elapsed_before = 0, 0.0
        self.stop_requested = False

        parameters = [parameter for parameter in task.module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if is_matrix(p)]},
                {"params": [p for p in parameters if not is_matrix(p)], "weight_decay": 0.0},
            ],
            lr=arguments.optimizer.learning_rate,
            betas=tuple(arguments.optimizer.betas),
            weight_decay=arguments.optimizer.weight_decay,
        )
        self.module, self.optimizer = accelerator.prepare(task.module, optimizer)
        self.ema = EMAModel(
            task.module.parameters(),
            decay=arguments.ema.decay,
            use_ema_warmup=True,
            power=arguments.ema.power,
            foreach=True,
        )
        accelerator.register_for_checkpointing(self.ema)
        count = sum(parameter.numel() for parameter in parameters)
        threads = torch.get_num_threads()
        log.say(f"{count / 1e6:.2f}M trainable parameters on {accelerator.device}, {threads} threads")

    def run(self) -> None:
        """Train, then export; after Ctrl-C or SIGTERM: save a checkpoint and leave with code 130."""
        self._resume()
        self.started = time.monotonic()
        self.window = Window()
        batches = self._batches()
        with self._signals():
            while not self._finished() and not self.stop_requested:
                self._set_learning_rate()
                output = [
                    self._training_step(next(batches)) for _ in range(self.arguments.gradient_accumulation)
                ]
                self.ema.step(self.task.module.parameters())
                self.step += 1
                self.window.add(output)
                if self.step % self.arguments.log_every == 0:
                    self._log_window()
                if self.step % self.arguments.validate_every == 0 and not self._finished():
                    self._validate()
                if self.step % self.arguments.save_every == 0:
                    self.save()
        latest = self.checkpoints.latest()
        if latest is None or read_state(latest)["step"] != self.step:
            self.save()
        elif not (self.folder / EXPORT_NAME).is_dir():
            self._export()
        if self.stop_requested:
            self.log.say(f"stopped at step {self.step}; the same command continues from there")
            self.log.close()
            raise SystemExit(130)
        self._validate()
        self.log.say(
            f"done: {self.step} steps in {clock(self.elapsed())}, model in {self.folder / EXPORT_NAME}"
        )
        self.log.close()

    def _training_step(self, batch: dict[str, Any]) -> StepOutput:
        with self.accelerator.accumulate(self.module):
            output = self.task.compute(self.module, batch, self.step)
            weights = self.task.loss_weights
            self.accelerator.backward(sum(weights[name] * loss for name, loss in output.losses.items()))
            if self.accelerator.sync_gradients and self.arguments.optimizer.max_grad_norm > 0:
                norm = self.accelerator.clip_grad_norm_(
                    self.task.module.parameters(), self.arguments.optimizer.max_grad_norm
                )
                output.metrics["grad_norm"] = norm.detach()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return output

    def _batches(self) -> Iterator[dict[str, Any]]:
        accelerator = self.accelerator
        start = self.step * self.arguments.gradient_accumulation
        iterator = iter(self.task.batches(start, accelerator.process_index, accelerator.num_processes))
        while True:
            asked = time.monotonic()
            batch = next(iterator)
            failures = batch.pop("failures", [])
            self.task.bad_files.add(failures, seen=len(next(iter(batch.values()))) + len(failures))
            batch = {
                key: value.to(accelerator.device, non_blocking=True)
                if isinstance(value, torch.Tensor)
                else value
                for key, value in batch.items()
            }
            self.window.data_wait += time.monotonic() - asked
            yield batch

    def elapsed(self) -> float:
        """Seconds of this run so far, those before it was resumed included."""
        return self.elapsed_before + time.monotonic() - self.started

    def progress(self) -> float:
        """Used share of the budget, of steps or of time, whichever is further."""
        steps = self.step / self.arguments.max_steps if self.arguments.max_steps else 0.0
        minutes = self.elapsed() / 60 / self.arguments.max_minutes if self.arguments.max_minutes else 0.0
        return max(steps, minutes)

    def _finished(self) -> bool:
        return self.progress() >= 1.0

    def _set_learning_rate(self) -> None:
        settings = self.arguments.optimizer
        factor = learning_rate_factor(
            settings.schedule,
            self.step,
            self.progress(),
            warmup_steps=settings.warmup_steps,
            final_factor=settings.final_factor,
            inverse_steps=settings.inverse_steps,
            inverse_power=settings.inverse_power,
        )
        self.learning_rate = settings.learning_rate * factor
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = self.learning_rate

    def _log_window(self) -> None:
        window, self.window = self.window, Window()
        values = window.means()
        if not math.isfinite(sum(values[f"loss/{name}"] for name in self.task.loss_weights)):
            raise FloatingPointError(
                f"the loss is not finite at step {self.step} ({values}): try a tenth of the learning rate"
            )
        total = sum(weight * values[f"loss/{name}"] for name, weight in self.task.loss_weights.items())
        seconds = time.monotonic() - window.started
        rates = {
            "learning_rate": self.learning_rate,
            "audio_seconds_per_second": window.audio_seconds * self.accelerator.num_processes / seconds,
            "data_wait": window.data_wait / seconds,
        }
        self.log.record(self.step, {"loss": total, **values, **rates, "minutes": self.elapsed() / 60})
        losses = " ".join(f"{name} {number(values[f'loss/{name}'])}" for name in self.task.loss_weights)
        metrics = " ".join(f"{k} {number(v)}" for k, v in values.items() if not k.startswith("loss/"))
        left = self.elapsed() * (1 / self.progress() - 1) if self.progress() > 0 else 0.0
        parts = {
            "loss": f"{number(total)} = {losses}",
            "": metrics,
            "lr": number(self.learning_rate),
            "audio": f"{rates['audio_seconds_per_second']:.1f} s/s",
            "data wait": f"{rates['data_wait']:.0%}",
            "left": clock(max(0.0, left)),
        }
        self.log.say(progress_line(self.step, str(self.arguments.max_steps or "?"), parts))

    @contextmanager
    def _averaged_weights(self):
        parameters = list(self.task.module.parameters())
        # EMAModel.store() copies to the CPU, and its restore() with foreach wants the parameters' device
        trained = [parameter.detach().clone() for parameter in parameters]
        self.ema.copy_to(parameters)
        self.task.module.eval()
        try:
            yield
        finally:
            for parameter, value in zip(parameters, trained, strict=True):
                parameter.data.copy_(value)
            self.task.module.train()

    def _validate(self) -> None:
        device = self.accelerator.device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices), self._averaged_weights(), torch.no_grad():
            torch.manual_seed(self.arguments.seed)
            values = self.task.validate(device)
        if values:
            self.log.record(self.step, {f"validation/{name}": value for name, value in values.items()})
            text = " ".join(f"{name} {number(value)}" for name, value in values.items())
            self.log.say(f"step {self.step} | validation | {text}")

    def save(self) -> None:
        """Write a checkpoint, and renew the export with the averaged weights."""
        state = {"step": self.step, "elapsed": self.elapsed()}
        self.checkpoints.save(state, lambda folder: self.accelerator.save_state(str(folder)))
        self._export()

    def _export(self) -> None:
        if self.accelerator.is_main_process:
            with self._averaged_weights(), atomic_folder(self.folder / EXPORT_NAME) as folder:
                self.task.export(folder)

    def _resume(self) -> None:
        self.checkpoints.remove_incomplete()
        choice = self.arguments.resume
        checkpoint = self.checkpoints.latest() if choice in ("auto", "never") else Path(choice)
        if checkpoint is None:
            return
        if not (checkpoint / STATE_NAME).is_file():
            raise ValueError(f"resume {str(checkpoint)!r} is not a complete checkpoint")
        try:
            self.accelerator.load_state(str(checkpoint))
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"checkpoint {str(checkpoint)!r} is of another model or optimizer: {error}"
            ) from error
        self.ema.to(self.accelerator.device)
        state = read_state(checkpoint)
        self.step, self.elapsed_before = state["step"], state["elapsed"]
        self.log.say(f"continuing from {checkpoint}, {clock(self.elapsed_before)} into the run")

    @contextmanager
    def _signals(self):
        def request_stop(number, frame):
            if self.stop_requested:
                raise KeyboardInterrupt
            self.stop_requested = True
            self.log.say("stopping after this step; once more to stop at once")

        previous = {name: signal.signal(name, request_stop) for name in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for name, handler in previous.items():
                signal.signal(name, handler)


def is_matrix(parameter: torch.Tensor) -> bool:
    """Whether weight decay applies: not to biases, norms, gains and activations, whatever their shape."""
    return sum(size > 1 for size in parameter.shape) >= 2


class Window:
    """Sums over the steps since the last log line."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.data_wait = self.audio_seconds = 0.0
        self.sums: dict[str, Any] = {}
        self.counts: dict[str, int] = {}

    def add(self, outputs: list[StepOutput]) -> None:
        for output in outputs:
            self.audio_seconds += output.audio_seconds
            losses = {f"loss/{name}": loss.detach() for name, loss in output.losses.items()}
            for name, value in {**losses, **output.metrics}.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: float(value) / self.counts[name] for name, value in self.sums.items()}


def run_script(
    arguments_class: type[TrainingArguments],
    make_task: Callable[[Any, RunLog], Task],
    argv: list[str] | None = None,
) -> None:
    """A training script, from command line to exit code; what a user can mend is one line, no traceback."""
    try:
        arguments = parse_arguments(arguments_class, argv)
        accelerator, log = start_run(arguments)
        Trainer(arguments, make_task(arguments, log), accelerator, log).run()
    except (ValueError, TooManyBadFiles, FloatingPointError) as error:
        fail(str(error))
