"""One trained module with its optimizer and learning rate, and the average of its weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from engine.arguments import option
from engine.schedules import SCHEDULES, learning_rate_factor


@dataclass
class OptimizerArguments:
    learning_rate: float = option(1.5e-4, "base learning rate of AdamW")
    betas: list[float] = option([0.8, 0.99], "AdamW betas")
    weight_decay: float = option(1e-3, "of matrices and convolutions, not of biases, norms and gains")
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm; 0 for no clipping")
    schedule: str = option("cosine", f"after the warm-up: {', '.join(SCHEDULES)}")
    warmup_steps: int = option(100, "linear warm-up of the learning rate")
    warmup_decay: float = option(0.0, "exponential warm-up by 1 - warmup_decay^(step + 1)")
    final_factor: float = option(0.02, "cosine: share of the learning rate left at the end")
    inverse_steps: int = option(200_000, "inverse: (1 + step / inverse_steps)^-inverse_power")
    inverse_power: float = option(0.5, "inverse: the power")

    def check(self, path: str) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"{path}.schedule must be one of {SCHEDULES}, got {self.schedule!r}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"{path}.betas must be two numbers from 0 to below 1, got {self.betas}")
        if not 0 <= self.warmup_decay < 1:
            raise ValueError(f"{path}.warmup_decay must be from 0 to below 1, got {self.warmup_decay}")
        for name in ("learning_rate", "weight_decay", "max_grad_norm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{path}.{name} must be finite and at least 0, got {value}")


@dataclass
class EMAArguments:
    decay: float = option(0.999, "largest decay of the moving average of the weights")
    power: float = option(0.75, "the decay after n steps is 1 - (1 + n)^-power, up to `decay`")


class Player:
    """A module that some of the steps train: prepared by accelerate, with its own optimizer and schedule."""

    def __init__(self, module: nn.Module, settings: OptimizerArguments, accelerator: Accelerator) -> None:
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in trained if is_matrix(p)]},
                {"params": [p for p in trained if not is_matrix(p)], "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=tuple(settings.betas),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.settings, self.accelerator = settings, accelerator
        self.num_parameters = sum(parameter.numel() for parameter in trained)
        self.module, self.optimizer = accelerator.prepare(module, optimizer)
        self.updates = 0

    def trained_parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def set_learning_rate(self, progress: float) -> float:
        settings = self.settings
        factor = learning_rate_factor(
            settings.schedule,
            self.updates,
            progress,
            warmup_steps=settings.warmup_steps,
            warmup_decay=settings.warmup_decay,
            final_factor=settings.final_factor,
            inverse_steps=settings.inverse_steps,
            inverse_power=settings.inverse_power,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor
        return settings.learning_rate * factor

    def clip_gradients(self) -> torch.Tensor | None:
        """The gradient's norm before clipping; `None` where the back end keeps it to itself."""
        norm = self.accelerator.clip_grad_norm_(
            self.module.parameters(), self.settings.max_grad_norm or math.inf
        )
        if isinstance(norm, DTensor):
            return norm.full_tensor()
        return None if norm is None else torch.as_tensor(norm)


class AveragedWeights:
    """Moving average of a player's trained weights.

    `evaluated` is the module that is validated and exported: the trained one itself, or, where the back end
    shards or converts the weights, the module it was copied from, on the main process.
    """

    FILE_NAME = "ema.safetensors"

    def __init__(self, player: Player, evaluated: nn.Module, separate: bool, arguments: EMAArguments) -> None:
        self.player, self.evaluated, self.separate = player, evaluated, separate
        self.model = EMAModel(
            player.trained_parameters(),
            decay=arguments.decay,
            use_ema_warmup=True,
            power=arguments.power,
            foreach=True,
        )

    def step(self) -> None:
        self.model.step(self.player.trained_parameters())

    @contextmanager
    def applied(self) -> Iterator[None]:
        """`evaluated` with the averaged weights, in evaluation mode, on the training device."""
        targets = [parameter for parameter in self.evaluated.parameters() if parameter.requires_grad]
        # a copy on the same device: EMAModel.store() moves to the CPU, where its restore() cannot find it
        trained = None if self.separate else [parameter.detach().clone() for parameter in targets]
        averages = self._whole() if self.separate else self.model.shadow_params
        for target, average in zip(targets, averages, strict=True):
            target.data.copy_(average)
        training, device = self.evaluated.training, targets[0].device
        if self.separate and self.player.accelerator.is_main_process:
            self.evaluated.to(self.player.accelerator.device)
        self.evaluated.eval()
        try:
            yield
        finally:
            if trained is not None:
                for target, value in zip(targets, trained, strict=True):
                    target.data.copy_(value)
            self.evaluated.to(device).train(training)

    def save(self, folder: Path) -> None:
        """Write the averages as whole tensors; every process must call it."""
        tensors = {str(index): tensor.contiguous() for index, tensor in enumerate(self._whole())}
        if self.player.accelerator.is_main_process:
            save_file(tensors, folder / self.FILE_NAME)

    def load(self, folder: Path, optimization_step: int) -> None:
        tensors = load_file(folder / self.FILE_NAME)
        for index, shadow in enumerate(self.model.shadow_params):
            value = tensors[str(index)].to(shadow.device)
            if isinstance(shadow, DTensor):
                value = distribute_tensor(value, shadow.device_mesh, shadow.placements)
            shadow.copy_(value)
        self.model.optimization_step = optimization_step

    def _whole(self) -> list[torch.Tensor]:
        return [
            (shadow.full_tensor() if isinstance(shadow, DTensor) else shadow).cpu()
            for shadow in self.model.shadow_params
        ]


def is_matrix(parameter: torch.Tensor) -> bool:
    """Whether weight decay applies: not to biases, norms, gains and activations, whatever their shape."""
    return sum(size > 1 for size in parameter.shape) >= 2
