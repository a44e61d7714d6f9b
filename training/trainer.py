"""The training loop that every script shares: budget, schedule, averaging, checkpoints, log."""

import math
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, set_seed
from arguments import flatten, group, option, to_yaml
from checkpoints import Checkpoints, atomic_folder, read_state
from diffusers.training_utils import EMAModel
from run_log import RunLog, check_trackers, clock, number, progress_line
from schedules import SCHEDULES, learning_rate_factor
from torch import nn

from star_hf.data import BadFiles

EXPORT_NAME = "export"


@dataclass
class OptimizerArguments:
    learning_rate: float = option(1.5e-4, "base learning rate of AdamW")
    betas: list[float] = option([0.8, 0.99], "AdamW betas")
    weight_decay: float = option(1e-3, "of weights with two or more dimensions")
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm; 0 for no clipping")
    schedule: str = option("cosine", f"after the warm-up: {', '.join(SCHEDULES)}")
    warmup_steps: int = option(100, "linear warm-up of the learning rate")
    final_factor: float = option(0.02, "cosine: share of the learning rate left at the end")
    inverse_steps: int = option(200_000, "inverse: (1 + step / inverse_steps)^-inverse_power")
    inverse_power: float = option(0.5, "inverse: the power")


@dataclass
class EMAArguments:
    decay: float = option(0.999, "largest decay of the moving average of the weights")
    power: float = option(0.75, "the decay after n steps is 1 - (1 + n)^-power, up to `decay`")


@dataclass
class TrainingArguments:
    output_dir: str = option("", "folder of the run: log, metrics, checkpoints, export")
    max_steps: int | None = option(None, "optimizer steps")
    max_minutes: float | None = option(None, "time budget; the run ends when the first of the two is used up")
    gradient_accumulation: int = option(1, "batches per optimizer step")
    mixed_precision: str = option("no", "no, bf16 or fp16; losses are computed in float32")
    threads: int | None = option(None, "PyTorch's threads; default: PyTorch's own choice")
    seed: int = option(0, "of weights, data order, crops and noise")
    log_every: int = option(50, "steps")
    validate_every: int = option(500, "steps")
    save_every: int = option(1000, "steps; the export is renewed with each checkpoint")
    keep_last: int = option(2, "checkpoints to keep")
    resume: str = option("auto", "auto: latest complete checkpoint if any; never; or a checkpoint's path")
    report_to: list[str] = option(["tensorboard"], "trackers of accelerate; [] for none")
    optimizer: OptimizerArguments = group(OptimizerArguments)
    ema: EMAArguments = group(EMAArguments)

    def check(self) -> None:
        """Raise `ValueError` for values that cannot be trained with, before anything is loaded."""
        if not self.output_dir:
            raise ValueError("output_dir is missing: the folder of the run")
        if self.max_steps is None and self.max_minutes is None:
            raise ValueError("max_steps or max_minutes must be given")
        for name in ("max_steps", "max_minutes", "gradient_accumulation", "threads"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0, got {value}")
        for name in ("log_every", "validate_every", "save_every", "keep_last"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.optimizer.schedule not in SCHEDULES:
            raise ValueError(f"optimizer.schedule must be one of {SCHEDULES}, got {self.optimizer.schedule!r}")
        if self.mixed_precision not in ("no", "bf16", "fp16"):
            raise ValueError(f"mixed_precision must be no, bf16 or fp16, got {self.mixed_precision!r}")
        check_trackers(self.report_to)


@dataclass
class StepOutput:
    """One batch's losses (unweighted, named as their weights), other numbers to log, and the audio it held."""

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


def check_loss_weights(weights: dict[str, float], known: Iterable[str]) -> None:
    """A weight for a loss that does not exist is an error, not a loss that silently vanishes."""
    for name, weight in weights.items():
        if name not in known:
            raise ValueError(f"losses has no {name!r}; known losses: {', '.join(known)}")
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"losses.{name} must be finite and at least 0, got {weight}")


def start_run(arguments: TrainingArguments) -> tuple[Accelerator, RunLog]:
    """Check the arguments, set threads and seeds, and open the run's folder and log."""
    arguments.check()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    folder = Path(arguments.output_dir)
    checkpoints = Checkpoints(folder / "checkpoints", arguments.keep_last)
    if arguments.resume == "never" and checkpoints.latest() is not None:
        raise ValueError(f"output_dir {str(folder)!r} holds checkpoints and resume is 'never': use another folder")
    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation,
        log_with=arguments.report_to or None,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)),
    )
    set_seed(arguments.seed)
    log = RunLog(accelerator, folder)
    if accelerator.is_main_process:
        (folder / "arguments.yaml").write_text(to_yaml(arguments), encoding="utf-8")
    accelerator.init_trackers("tensorboard", config=flatten(arguments))
    return accelerator, log


class Trainer:
    """Trains `task.module` until the budget of steps or minutes is used up, or a signal asks to stop."""

    def __init__(self, arguments: TrainingArguments, task: Task, accelerator: Accelerator, log: RunLog) -> None:
        self.arguments, self.task, self.accelerator, self.log = arguments, task, accelerator, log
        self.folder = Path(arguments.output_dir)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", arguments.keep_last)
        self.step, self.elapsed_before = 0, 0.0
        self.stop_requested = False

        parameters = [parameter for parameter in task.module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim >= 2]},
                {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
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
        log.say(f"{count / 1e6:.2f}M trainable parameters on {accelerator.device}, {torch.get_num_threads()} threads")

    def run(self) -> None:
        """Train, then export; after Ctrl-C or SIGTERM: save a checkpoint and leave with code 130."""
        self._resume()
        self.started = self.window_started = time.monotonic()
        self.window = Window()
        batches = self._batches()
        with self._signals():
            while not self._finished() and not self.stop_requested:
                self._set_learning_rate()
                output = [self._training_step(next(batches)) for _ in range(self.arguments.gradient_accumulation)]
                self.ema.step(self.task.module.parameters())
                self.step += 1
                self.window.add(output)
                if self.step % self.arguments.log_every == 0:
                    self._log_window()
                if self.step % self.arguments.validate_every == 0 and not self._finished():
                    self._validate()
                if self.step % self.arguments.save_every == 0:
                    self.save()
        if self.checkpoints.latest() is None or read_state(self.checkpoints.latest())["step"] != self.step:
            self.save()
        if self.stop_requested:
            self.log.say(f"stopped at step {self.step}; the same command continues from there")
            self.log.close()
            raise SystemExit(130)
        self._validate()
        self._export()
        self.log.say(f"done: {self.step} steps in {clock(self.elapsed())}, model in {self.folder / EXPORT_NAME}")
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
                key: value.to(accelerator.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
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
        # store() keeps its copy on the CPU, and restore() with foreach=True wants it on the parameters' device
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
        random_state = torch.get_rng_state()
        with self._averaged_weights(), torch.no_grad():
            torch.manual_seed(self.arguments.seed)
            values = self.task.validate(self.accelerator.device)
        torch.set_rng_state(random_state)
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
        if not (checkpoint / "run_state.json").is_file():
            raise ValueError(f"resume {str(checkpoint)!r} is not a complete checkpoint")
        self.accelerator.load_state(str(checkpoint))
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
