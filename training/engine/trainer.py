"""The training loop that every script shares."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device

from engine.backends import Backend
from engine.checkpoints import (
    EXPORT_NAME,
    STATE_NAME,
    CheckpointError,
    Checkpoints,
    read_state,
    recover,
    together,
)
from engine.evaluation import Evaluator
from engine.guard import FiniteGuard
from engine.memory import memory_in_use
from engine.optimization import AveragedWeights, Player
from engine.run_log import RunLog, clock, number, progress_line
from engine.run_setup import TrainingArguments
from engine.task import Task
from engine.window import Window
from star_hf.data import BadFile


class Trainer:
    """Trains `task.modules` until the budget of steps or minutes is used up, or a signal asks to stop."""

    def __init__(
        self, arguments: TrainingArguments, task: Task, accelerator: Accelerator, log: RunLog
    ) -> None:
        self.arguments, self.task, self.accelerator, self.log = arguments, task, accelerator, log
        self.folder = Path(arguments.output_dir)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", arguments.keep_last)
        self.step = self.samples = 0
        self.saved_step: int | None = None
        self.elapsed_before = self.agreed_elapsed = 0.0
        self.signalled = self.stopping = False
        self.learning_rates: dict[str, float] = {}
        self.position: Any = None
        self.failures: list[BadFile] = []
        self.seen = 0
        self.guard = FiniteGuard(arguments.max_skipped_steps)

        backend = self.backend = Backend(
            accelerator, len(task.modules), task.batch_size, arguments.optimizer.max_grad_norm
        )
        self.players = {
            name: Player(
                backend.to_train(module), task.optimizers.get(name, arguments.optimizer), accelerator
            )
            for name, module in task.modules.items()
        }
        self.modules = {name: player.module for name, player in self.players.items()}
        self.main = next(iter(self.players))
        self.average = AveragedWeights(
            self.players[self.main], task.modules[self.main], backend.separate, arguments.ema
        )
        self.evaluator = Evaluator(
            task,
            self.average,
            accelerator,
            log,
            self.folder,
            arguments.seed,
            task.best_metric if arguments.best_metric == "default" else arguments.best_metric,
        )
        counts = ", ".join(
            f"{name} {player.num_parameters / 1e6:.2f}M" for name, player in self.players.items()
        )
        threads = torch.get_num_threads()
        log.say(
            f"trainable parameters: {counts}; on {accelerator.num_processes} × {accelerator.device.type}, "
            f"{threads} threads"
        )

    def run(self) -> None:
        """Train, then export; after Ctrl-C or SIGTERM: save a checkpoint and leave with code 130."""
        self._resume()
        self.started = time.monotonic()
        self.window = Window()
        self.data = self._batches()
        with self._signals():
            while not self._finished() and not self._stopping():
                self._train_step()
                self.step += 1
                if self.step % self.arguments.log_every == 0:
                    self._log_window()
                if self.step % self.arguments.validate_every == 0 and not self._finished():
                    self.evaluator.validate(self.step)
                if self.step % self.arguments.report_every == 0:
                    self.evaluator.report(self.step)
                if self.step % self.arguments.save_every == 0:
                    self._save_if_possible()
        if self.saved_step != self.step:
            self.save()
        if self._stopping():
            self.log.say(f"stopped at step {self.step}; the same command continues from there")
            self.log.close()
            raise SystemExit(130)
        self.evaluator.validate(self.step)
        self.log.say(
            f"done: {self.step} steps in {clock(self.elapsed())}, model in {self.folder / EXPORT_NAME}"
        )
        self.log.close()

    def _train_step(self) -> None:
        name = self.task.player(self.step)
        player, weights = self.players[name], self.task.loss_weights
        suffix = "" if name == self.main else f"/{name}"
        self.learning_rates[f"learning_rate{suffix}"] = player.set_learning_rate(self.progress())
        batches = [next(self.data) for _ in range(self.arguments.gradient_accumulation)]
        last: dict[str, float | torch.Tensor] = {}
        outputs = []
        for batch, share in zip(batches, self._shares(batches), strict=True):
            with self.accelerator.accumulate(player.module):
                output = self.task.compute(self.modules, batch, self.step)
                total = sum(weights[loss] * value for loss, value in output.losses.items())
                if self.backend.deepspeed:
                    # its backward pass makes the step, too
                    if not self._agree(bool(torch.isfinite(total))):
                        self.accelerator.step = 0  # the next micro-batch is the first of a step
                        self.guard.skipped(self.step, {"loss": float(total.detach())})
                        break
                self.accelerator.backward(total * share if share != 1.0 else total)
                last = {loss: value.detach() for loss, value in output.losses.items()}
                last["loss"] = total.detach()
                outputs.append((output, share))
                if self.accelerator.sync_gradients:
                    norm = player.clip_gradients()
                    if norm is not None:
                        last["grad_norm"] = output.metrics[f"grad_norm{suffix}"] = norm.detach()
                    if self._agree(self._is_finite(last)):
                        self.guard.passed()
                        player.optimizer.step()
                        player.updates += 1
                        if name == self.main:
                            self.average.step()
                        for made in outputs:
                            self.window.add(*made)
                    elif not self._scaler_is_searching():
                        self.guard.skipped(self.step, {key: float(value) for key, value in last.items()})
                for other in self.players.values():  # under FSDP2 they get gradients of this step, too
                    other.optimizer.zero_grad()
        self.window.steps += 1

    def _is_finite(self, values: dict[str, Any]) -> bool:
        numbers = [
            torch.as_tensor(values[key]).float().sum() for key in ("loss", "grad_norm") if key in values
        ]
        return bool(
            torch.isfinite(torch.stack([number.to(self.accelerator.device) for number in numbers])).all()
        )

    def _scaler_is_searching(self) -> bool:
        """Let fp16's loss scale fall, which is how it finds its size: such a step is no fault."""
        scaler = self.accelerator.scaler
        if scaler is None:
            return False
        searching = scaler.get_scale() > 1.0
        scaler.update()  # it has seen the gradients when they were clipped
        return searching

    def _agree(self, finite: bool) -> bool:
        """Whether all processes are finite; on the way, agree on all else that may end the run.

        That is a request to stop, the time, and the files that could not be read: a process that alone knew
        of too many would leave the others waiting.
        """
        own = [float(finite), float(self.signalled), self.elapsed(), len(self.failures), self.seen]
        everyone, failures = [own], self.failures
        if self.accelerator.num_processes > 1:
            rows = torch.tensor([own], device=self.accelerator.device)
            everyone = self.accelerator.gather(rows).tolist()
            if any(row[3] for row in everyone):
                failures = gather_object(failures)
        self.task.bad_files.add(failures, seen=int(sum(row[4] for row in everyone)))
        self.failures, self.seen = [], 0
        self.stopping = any(row[1] for row in everyone)
        self.agreed_elapsed = everyone[0][2]
        return all(row[0] for row in everyone)

    def _as_main(self, value: Any) -> Any:
        """The main process's `value`: where each looks for itself, one may not see yet what is there."""
        return gather_object([value])[0] if self.accelerator.num_processes > 1 else value

    def _shares(self, batches: list[dict[str, Any]]) -> list[float]:
        """Factors that turn the mean over micro-batches and processes into the mean over what they hold."""
        weights = [self.task.weight(batch) for batch in batches]
        total = sum(weights)
        if self.accelerator.num_processes > 1:
            total = float(
                self.accelerator.reduce(
                    torch.tensor(total, device=self.accelerator.device, dtype=torch.float64)
                )
            )
        mean = total / (len(weights) * self.accelerator.num_processes)
        return [weight / mean for weight in weights]

    def _batches(self) -> Iterator[dict[str, Any]]:
        accelerator = self.accelerator
        rank, world_size = accelerator.process_index, accelerator.num_processes
        iterator = iter(self.task.batches(self.samples, rank, world_size, self.position))
        while True:
            asked = time.monotonic()
            batch = next(iterator)
            failures = batch.pop("failures", [])
            self.position = batch.pop("position", None)
            size = len(next(iter(batch.values())))
            self.samples += size * world_size
            self.failures += failures
            self.seen += size + len(failures)
            batch = send_to_device(batch, accelerator.device, non_blocking=True)
            self.window.data_wait += time.monotonic() - asked
            yield batch

    def elapsed(self) -> float:
        """Seconds of this run so far, those before it was resumed included."""
        return self.elapsed_before + time.monotonic() - self.started

    def progress(self) -> float:
        """Used share of the budget, of steps or of time, whichever is further."""
        elapsed = self.elapsed() if self.accelerator.num_processes == 1 else self.agreed_elapsed
        steps = self.step / self.arguments.max_steps if self.arguments.max_steps else 0.0
        minutes = elapsed / 60 / self.arguments.max_minutes if self.arguments.max_minutes else 0.0
        return max(steps, minutes)

    def _finished(self) -> bool:
        return self.progress() >= 1.0

    def _stopping(self) -> bool:
        return self.signalled if self.accelerator.num_processes == 1 else self.stopping

    def _log_window(self) -> None:
        window, self.window = self.window, Window()
        values = window.means(self.accelerator)
        losses = {name: values[f"loss/{name}"] for name in self.task.loss_weights if f"loss/{name}" in values}
        total = sum(self.task.loss_weights[name] * value for name, value in losses.items())
        total = total if losses else math.nan  # all steps were skipped
        seconds = time.monotonic() - window.started
        rates = {
            **self.learning_rates,
            "steps_per_second": window.steps / seconds,
            "audio_seconds_per_second": window.audio_seconds * self.accelerator.num_processes / seconds,
            "data_wait": window.data_wait / seconds,
            "memory_gib": memory_in_use(self.accelerator.device) / 2**30,
            "skipped_steps": self.guard.total,
        }
        self.log.record(self.step, {"loss": total, **values, **rates, "minutes": self.elapsed() / 60})
        named = " ".join(f"{name} {number(value)}" for name, value in losses.items())
        metrics = " ".join(f"{k} {number(v)}" for k, v in values.items() if not k.startswith("loss/"))
        left = self.elapsed() * (1 / self.progress() - 1) if self.progress() > 0 else 0.0
        parts = {
            "loss": f"{number(total)} = {named}",
            "": metrics,
            "lr": " ".join(number(rate) for rate in self.learning_rates.values()),
            "speed": f"{number(rates['steps_per_second'])} steps/s",
            "audio": f"{rates['audio_seconds_per_second']:.1f} s/s",
            "data wait": f"{rates['data_wait']:.0%}",
            "memory": f"{rates['memory_gib']:.1f} GiB",
            "left": clock(max(0.0, left)),
        }
        if self.guard.total:
            parts["skipped"] = f"{self.guard.total} steps"
        self.log.say(progress_line(self.step, str(self.arguments.max_steps or "?"), parts))

    def save(self) -> None:
        """Write a checkpoint, and renew the export with the averaged weights."""
        positions = [self.position]
        if self.accelerator.num_processes > 1:
            positions = gather_object(positions)
        state = {
            "step": self.step,
            "samples": self.samples,
            "elapsed": self.elapsed(),
            "updates": {name: player.updates for name, player in self.players.items()},
            "ema_steps": self.average.model.optimization_step,
            "skipped_steps": self.guard.total,
            "best": self.evaluator.best,
            "positions": positions,
        }

        def write(folder: Path) -> None:
            # one after the other: both exchange weights, and none may begin where another process has failed
            together(self.accelerator, lambda: self.accelerator.save_state(str(folder)))
            together(self.accelerator, lambda: self.average.save(folder))

        self.checkpoints.save(state, write, self.accelerator)
        self.evaluator.export()
        self.saved_step = self.step

    def _save_if_possible(self) -> None:
        try:
            self.save()
        except CheckpointError as error:
            self.log.say(f"warning: {error}; the run goes on, and tries again at the next checkpoint")

    def _resume(self) -> None:
        if self.accelerator.is_main_process:
            recover(self.folder)
            recover(self.checkpoints.folder)
        self.accelerator.wait_for_everyone()
        choice = self.arguments.resume
        latest = self._as_main(self.checkpoints.latest())
        checkpoint = latest if choice in ("auto", "never") else Path(choice)
        if checkpoint is None:
            self.log.truncate(0)  # lines of a run that was killed before its first checkpoint
            return
        if not (checkpoint / STATE_NAME).is_file():
            raise ValueError(
                f"resume {str(checkpoint)!r} is not a complete checkpoint (several machines: output_dir must "
                "be the same folder on all of them)"
            )
        state = read_state(checkpoint)
        try:
            self.accelerator.load_state(str(checkpoint))
            self.average.load(checkpoint, state["ema_steps"])
            self.accelerator.step = 0  # the number of batches per step may have changed
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(
                f"checkpoint {str(checkpoint)!r} is of another model or optimizer: {error}"
            ) from error
        self.step, self.samples, self.evaluator.best = state["step"], state["samples"], state["best"]
        self.elapsed_before = self.agreed_elapsed = state["elapsed"]
        self.guard.total = state["skipped_steps"]
        for name, player in self.players.items():
            player.updates = state["updates"][name]
        positions = state["positions"]
        if len(positions) == self.accelerator.num_processes:
            self.position = positions[self.accelerator.process_index]
        elif any(position is not None for position in positions):
            self.log.say(
                f"warning: the checkpoint is of {len(positions)} processes, this run has "
                f"{self.accelerator.num_processes}: the streams begin anew"
            )
        self.log.truncate(self.step)
        self.log.say(f"continuing from {checkpoint}, {clock(self.elapsed_before)} into the run")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM ends the run after the current step, the second at once."""

        def request_stop(*_: Any) -> None:
            if self.signalled:
                raise KeyboardInterrupt
            self.signalled = True
            self.log.say("stopping after this step; once more to stop at once")

        previous = {name: signal.signal(name, request_stop) for name in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for name, handler in previous.items():
                signal.signal(name, handler)
