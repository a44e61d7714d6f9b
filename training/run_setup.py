"""What every training run is told, and how it begins: budget, optimizer, averaging, checkpoints, trackers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, set_seed

from arguments import flatten, group, option, to_yaml
from checkpoints import Checkpoints
from run_log import RunLog, check_trackers, quiet_libraries
from schedules import SCHEDULES


@dataclass
class OptimizerArguments:
    learning_rate: float = option(1.5e-4, "base learning rate of AdamW")
    betas: list[float] = option([0.8, 0.99], "AdamW betas")
    weight_decay: float = option(1e-3, "of matrices and convolutions, not of biases, norms and gains")
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
            raise ValueError(
                f"optimizer.schedule must be one of {SCHEDULES}, got {self.optimizer.schedule!r}"
            )
        if self.mixed_precision not in ("no", "bf16", "fp16"):
            raise ValueError(f"mixed_precision must be no, bf16 or fp16, got {self.mixed_precision!r}")
        check_trackers(self.report_to)


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
    )
    set_seed(arguments.seed)
    log = RunLog(accelerator, folder)
    if accelerator.is_main_process:
        (folder / "arguments.yaml").write_text(to_yaml(arguments), encoding="utf-8")
    accelerator.init_trackers("star_hf", config=flatten(arguments))
    return accelerator, log
