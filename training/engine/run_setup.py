"""What every training run is told, and how it begins: budget, optimizer, averaging, checkpoints, trackers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration, TorchDynamoPlugin, set_seed

from engine.arguments import flatten, group, option, to_yaml
from engine.checkpoints import Checkpoints
from engine.optimization import EMAArguments, OptimizerArguments
from engine.publishing import PublishingArguments
from engine.run_log import RunLog, check_trackers, quiet_libraries

PRECISIONS = ("no", "bf16", "fp16")


@dataclass
class TrainingArguments(PublishingArguments):
    output_dir: str = option("", "folder of the run: log, metrics, checkpoints, export")
    dry_run: bool = option(False, "print parameters, memory estimate and a data sample, then exit")
    max_steps: int | None = option(None, "optimizer steps, those of a discriminator included")
    max_minutes: float | None = option(None, "time budget; the run ends when the first of the two is used up")
    gradient_accumulation: int = option(1, "batches per optimizer step")
    mixed_precision: str | None = option(
        None, f"{', '.join(PRECISIONS)}; losses are computed in float32; default: accelerate's configuration"
    )
    gradient_checkpointing: bool = option(False, "recompute activations in the backward pass: less memory")
    torch_compile: bool = option(False, "compile the modules with torch.compile")
    threads: int | None = option(None, "PyTorch's threads; default: PyTorch's own choice")
    seed: int = option(0, "of weights, data order, crops and noise")
    log_every: int = option(50, "steps")
    validate_every: int = option(500, "steps")
    report_every: int = option(2000, "steps between sounds and pictures")
    save_every: int = option(1000, "steps; the export is renewed with each checkpoint")
    keep_last: int = option(2, "checkpoints to keep")
    best_metric: str | None = option(
        "default", "validation value whose smallest is kept in best/; default: the script's own; null: none"
    )
    max_skipped_steps: int = option(20, "so many steps in a row that are not finite stop the run")
    resume: str = option("auto", "auto: latest complete checkpoint if any; never; or a checkpoint's path")
    report_to: list[str] = option(["tensorboard", "trackio"], "trackers of accelerate; [] for none")
    timeout_minutes: float = option(60.0, "several processes: how long one may wait for another")
    optimizer: OptimizerArguments = group(OptimizerArguments)
    ema: EMAArguments = group(EMAArguments)

    def check(self) -> None:
        """Raise `ValueError` for values that cannot be trained with, before anything is loaded."""
        if not self.output_dir:
            raise ValueError("output_dir is missing: the folder of the run")
        if self.max_steps is None and self.max_minutes is None:
            raise ValueError("max_steps or max_minutes must be given")
        for name in ("max_steps", "max_minutes", "gradient_accumulation", "threads", "timeout_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0, got {value}")
        steps = ("log_every", "validate_every", "report_every", "save_every", "keep_last")
        for name in (*steps, "max_skipped_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.mixed_precision not in (None, *PRECISIONS):
            raise ValueError(f"mixed_precision must be {', '.join(PRECISIONS)}, got {self.mixed_precision!r}")
        self.optimizer.check("optimizer")
        self.check_publishing()
        check_trackers(self.report_to)


def check_loss_weights(weights: dict[str, float], known: Iterable[str]) -> None:
    """A weight for a loss that does not exist is an error, not a loss that silently vanishes."""
    for name, weight in weights.items():
        if name not in known:
            raise ValueError(f"losses has no {name!r}; known losses: {', '.join(known)}")
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"losses.{name} must be finite and at least 0, got {weight}")


def make_accelerator(arguments: TrainingArguments) -> Accelerator:
    """Check the arguments, set threads and seeds, and find the processes and devices of this run."""
    arguments.check()
    quiet_libraries()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    folder = Path(arguments.output_dir)
    checkpoints = Checkpoints(folder / "checkpoints", arguments.keep_last)
    if arguments.resume == "never" and checkpoints.latest() is not None:
        raise ValueError(
            f"output_dir {str(folder)!r} holds checkpoints and resume is 'never': use another folder"
        )
    accelerator = Accelerator(
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation,
        log_with=arguments.report_to or None,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)),
        dynamo_plugin=TorchDynamoPlugin(backend="inductor") if arguments.torch_compile else None,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(minutes=arguments.timeout_minutes))],
    )
    set_seed(arguments.seed)
    return accelerator


def open_log(arguments: TrainingArguments, accelerator: Accelerator) -> RunLog:
    """The run's folder, its log, and the trackers."""
    folder = Path(arguments.output_dir)
    log = RunLog(accelerator, folder)
    if accelerator.is_main_process:
        (folder / "arguments.yaml").write_text(to_yaml(arguments), encoding="utf-8")
    log.start_trackers(flatten(arguments))
    return log
