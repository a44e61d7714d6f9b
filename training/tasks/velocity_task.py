"""What both generators share: noise and times that belong to samples, the loss, validation, and reports."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import nn

from engine.arguments import option
from engine.noise import SampleNoise
from engine.reports import Report, spectrogram_figure
from engine.task import StepOutput, Task
from loaders.generator_data import GeneratorData, Tokenize
from star_hf.flow import logit_normal_times

DISTRIBUTIONS = ("logit_normal", "uniform")
QUARTILES = 4


@dataclass
class TimeArguments:
    distribution: str = option("logit_normal", f"of the time t: {', '.join(DISTRIBUTIONS)}")
    mean: float = option(0.0, "logit_normal: mean of logit(t); t = 0 is noise, 1 is data")
    std: float = option(1.0, "logit_normal: its standard deviation")

    def check(self) -> None:
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"times.distribution must be one of {', '.join(DISTRIBUTIONS)}, got {self.distribution!r}"
            )
        if not self.std >= 0:
            raise ValueError(f"times.std must be at least 0, got {self.std}")

    def at(self, normal: torch.Tensor) -> torch.Tensor:
        """Times of standard normal numbers: quantile to quantile."""
        if self.distribution == "uniform":
            return torch.special.ndtr(normal)
        return logit_normal_times(normal, self.mean, self.std)


@dataclass
class ReportArguments:
    prompts: list[str] = option([], "what to generate in a report; default: captions of held-out clips")
    num_prompts: int = option(4, "how many captions, where no prompts are given")
    seconds: float | None = option(None, "length of each; default: the model's own")
    num_inference_steps: int = option(24, "sampling steps")
    guidance_scale: float = option(3.0, "guidance")

    def check(self) -> None:
        for name in ("num_prompts", "num_inference_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"report.{name} must be at least 1, got {getattr(self, name)}")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"report.seconds must be greater than 0, got {self.seconds}")


class VelocityTask(Task):
    """Learns a velocity between noise and latents. A subclass says which one, and how to generate with it.

    Args:
        name: of the trained module.
        loss: name of the loss, which is also that of the validation value.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        loss: str,
        data: GeneratorData,
        tokenize: Tokenize,
        times: TimeArguments,
        report: ReportArguments,
        seed: int,
    ) -> None:
        self.name, self.loss = name, loss
        self.modules = {name: module}
        self.best_metric = loss
        self.data, self.tokenize, self.times, self.seed = data, tokenize, times, seed
        self.batch_size, self.bad_files = data.batch_size, data.bad_files
        self.prompts = report.prompts or data.example_captions(report.num_prompts)

    def row_errors(
        self, module: nn.Module, batch: dict[str, Any], noise: SampleNoise, t: torch.Tensor
    ) -> torch.Tensor:
        """Mean squared error of each row over the frames that count, `(batch,)`, at its time t in `t`."""
        raise NotImplementedError

    def counted_frames(self, batch: dict[str, Any]) -> list[int]:
        """How many frames of each row count."""
        return batch["num_frames"]

    def width(self, batch: dict[str, Any]) -> int:
        """Frames of each row, padding included."""
        return max(batch["num_frames"])

    def generate(self, prompts: list[str], generators: list[torch.Generator], device: torch.device) -> Any:
        """Waveforms `(prompts, channels, samples)`."""
        raise NotImplementedError

    def batches(
        self, start: int, rank: int, world_size: int, position: Any | None = None
    ) -> Iterable[dict[str, Any]]:
        return self.data.batches(self.tokenize, start, rank, world_size, position)

    def weight(self, batch: dict[str, Any]) -> float:
        return float(sum(self.counted_frames(batch)))

    def compute(self, modules: dict[str, nn.Module], batch: dict[str, Any], step: int) -> StepOutput:
        noise = SampleNoise(batch["noise_seed"], batch["noise_seed"].device)
        errors = self.row_errors(modules[self.name], batch, noise, self.times.at(noise.normal()))
        counts = torch.tensor(self.counted_frames(batch), device=errors.device)
        real = sum(batch["num_frames"])
        return StepOutput(
            {self.loss: (errors * counts).sum() / counts.sum()},
            audio_seconds=real / self.data.frame_rate,
            metrics={"padding": 1 - real / (len(counts) * self.width(batch))},
        )

    def validate(self, device: torch.device) -> dict[str, float]:
        """The training loss over the held-out clips, always at the same noise and times.

        The times are evenly spaced quantiles of the training distribution, dealt out at random. The loss of
        each quarter of them is told, too: `_t0` for the noisiest, `_t3` for the cleanest.
        """
        batches = list(self.data.held_out(self.tokenize))
        quantiles = _shuffled_quantiles(sum(len(batch["text"]) for batch in batches))
        sums, frames = torch.zeros(QUARTILES), torch.zeros(QUARTILES)
        for batch in batches:
            rows = len(batch["text"])
            own, quantiles = quantiles[:rows], quantiles[rows:]
            batch = send_to_device(batch, device)
            noise = SampleNoise(batch["noise_seed"], device)
            noise.normal()  # where training draws the times: the noise after it is the same
            t = self.times.at(torch.special.ndtri(own)).to(device)
            errors = self.row_errors(self.modules[self.name], batch, noise, t).cpu()
            counts = torch.tensor(self.counted_frames(batch), dtype=torch.float32)
            quartile = (own * QUARTILES).long()
            sums.index_add_(0, quartile, errors * counts)
            frames.index_add_(0, quartile, counts)
        if not frames.any():
            return {}
        values = {self.loss: float(sums.sum() / frames.sum())}
        return values | {
            f"{self.loss}_t{number}": float(sums[number] / frames[number])
            for number in range(QUARTILES)
            if frames[number] > 0
        }

    def report(self, device: torch.device) -> Report | None:
        """The same prompts from the same noise each time."""
        if not self.prompts:
            return None
        generators = [torch.Generator().manual_seed(self.seed + i) for i in range(len(self.prompts))]
        waveforms = self.generate(self.prompts, generators, device).float().cpu()
        rate = self.data.layout.sampling_rate
        clips = dict(zip(self.prompts, waveforms, strict=True))
        audio = {
            f"{number:02d}_{_file_name(prompt)}": (waveform, rate)
            for number, (prompt, waveform) in enumerate(clips.items())
        }
        return Report(audio=audio, figures={"generations": spectrogram_figure(clips, rate)})


def _shuffled_quantiles(count: int) -> torch.Tensor:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return (order + 0.5) / max(1, count)


def _file_name(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", prompt.lower()).strip("_")[:40] or "prompt"
