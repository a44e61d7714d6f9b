"""Averages over the steps between two log lines."""

import time
from typing import Any

import torch
from accelerate import Accelerator

from engine.task import StepOutput


class Window:
    """Sums of losses, metrics, audio and waiting since it was made."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.steps = 0
        self.data_wait = self.audio_seconds = 0.0
        self.sums: dict[str, Any] = {}
        self.counts: dict[str, int] = {}

    def add(self, output: StepOutput, share: float) -> None:
        """One micro-batch, whose losses count by `share` in the mean over micro-batches and processes."""
        self.audio_seconds += output.audio_seconds
        for name, loss in output.losses.items():
            self._add(f"loss/{name}", loss.detach() * share)
        for name, value in output.metrics.items():
            self._add(name, value)

    def _add(self, name: str, value: torch.Tensor | float) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + value
        self.counts[name] = self.counts.get(name, 0) + 1

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over this window and over the processes; every process must call it."""
        names = sorted(self.sums)
        if not names:
            return {}
        values = torch.stack(
            [
                torch.as_tensor(self.sums[name], device=accelerator.device).float() / self.counts[name]
                for name in names
            ]
        )
        if accelerator.num_processes > 1:
            values = accelerator.reduce(values, reduction="mean")
        return dict(zip(names, values.tolist(), strict=True))
