"""What a training script defines: modules, batches, losses, validation, export."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.optimization import OptimizerArguments
from engine.reports import Report
from star_hf.data import BadFiles


@dataclass
class StepOutput:
    """One batch's losses (unweighted, named as their weights), the audio it held, other numbers to log."""

    losses: dict[str, torch.Tensor]
    audio_seconds: float
    metrics: dict[str, torch.Tensor | float] = field(default_factory=dict)


class Task:
    """What the trainer trains. A subclass sets the attributes and fills in the methods that raise.

    Attributes:
        modules: the trained modules by name. The weights of the first are averaged, validated and exported.
        loss_weights: weight of each loss; every key is a loss that `compute` returns at some step.
        bad_files: what could not be read so far.
        optimizers: settings of the modules that do not take the run's own.
        best_metric: the value of `validate` whose smallest one so far is kept; `None` for none.
        batch_size: samples in a batch of one process.
    """

    modules: dict[str, nn.Module]
    loss_weights: dict[str, float]
    bad_files: BadFiles
    optimizers: dict[str, OptimizerArguments] = {}
    best_metric: str | None = None
    batch_size: int

    def player(self, step: int) -> str:
        """Name of the module that `step` trains."""
        return next(iter(self.modules))

    def batches(
        self, start: int, rank: int, world_size: int, position: Any | None = None
    ) -> Iterable[dict[str, Any]]:
        """Endless batches of this process, after the `start` samples that all have taken together.

        A batch holds tensors (moved to the device by the trainer) and lists. Two of its entries are the
        trainer's: `failures`, the files that could not be read, and `position`, which a stream gets back
        when it is to continue after that batch.
        """
        raise NotImplementedError

    def weight(self, batch: dict[str, Any]) -> float:
        """What a batch counts in the mean over micro-batches and processes."""
        return 1.0

    def compute(self, modules: dict[str, nn.Module], batch: dict[str, Any], step: int) -> StepOutput:
        """Losses of a batch; `modules` are `self.modules` as accelerate has prepared them."""
        raise NotImplementedError

    def validate(self, device: torch.device) -> dict[str, float]:
        """Numbers of the held-out data, with the averaged weights in `self.modules`."""
        return {}

    def report(self, device: torch.device) -> Report | None:
        """Sounds and pictures, with the averaged weights in `self.modules`."""
        return None

    def export(self, folder: Path) -> None:
        """Write the model as a `from_pretrained` folder, with the averaged weights in `self.modules`."""
        raise NotImplementedError
