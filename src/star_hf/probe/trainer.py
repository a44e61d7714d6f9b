"""Training a generator on encoded clips, up to each budget, and its loss on the held-out ones."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from ..data import EndlessShuffle, noise_seed
from ..flow import flow_matching_loss, interpolate, logit_normal_times, velocity_target
from .clips import ProbeClips
from .flow_losses import (
    FlowReport,
    flow_report,
    logit_normal_quantiles,
    posterior_floor,
    shuffled_quantiles,
)
from .latents import EncodedClips
from .networks import Captions
from .settings import ProbeSettings

BETAS = (0.9, 0.99)
EMA_POWER = 0.75
VALIDATION_STREAM = 17  # keeps the noise of the validation apart from that of the training clips


@dataclass(frozen=True)
class TrainedNetwork:
    """A generator after `budget` steps, with its averaged weights, and the seconds that they took."""

    network: nn.Module
    budget: int
    seconds: float


@dataclass(frozen=True)
class FlowBatch:
    """Drawn latents, noise `(batch, frames, channels)`, times, captions, and each row's number of frames.

    `noise_std` is what of the latents is the posterior's noise, a list of `(frames, channels)`.
    """

    latents: torch.Tensor
    noise: torch.Tensor
    t: torch.Tensor
    texts: list[str]
    frames: torch.Tensor
    noise_std: list[torch.Tensor]


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The precision that generators compute in."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def pad_latents(rows: Sequence[torch.Tensor], window: int | None, silence: torch.Tensor) -> torch.Tensor:
    """`(batch, frames, channels)`: zeros after each clip, or silence up to a window of fixed length."""
    if window is None:
        return nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    return torch.stack([torch.cat([row, silence[len(row) : window]]) for row in rows])


class FlowBatches:
    """Makes batches of encoded clips; every number is drawn by a generator that belongs to its clip."""

    def __init__(self, encoded: EncodedClips, window: int | None, device: torch.device) -> None:
        self.encoded, self.window, self.device = encoded, window, device

    def make(
        self,
        clips: Sequence[int],
        texts: list[str],
        generators: Sequence[torch.Generator],
        t: torch.Tensor,
    ) -> FlowBatch:
        latents, stds = zip(
            *(self.encoded[clip].draw(g) for clip, g in zip(clips, generators, strict=True)), strict=True
        )
        frames = torch.tensor([len(row) for row in latents])
        padded = pad_latents(latents, self.window, self.encoded.silence)
        noise = torch.zeros_like(padded)
        for row, generator, length in zip(noise, generators, frames.tolist(), strict=True):
            length = self.window or length
            row[:length] = torch.randn(length, row.shape[1], generator=generator)
        return FlowBatch(
            *(values.to(self.device) for values in (padded, noise, t)),
            texts,
            frames.to(self.device),
            list(stds),
        )


def row_losses(
    network: nn.Module, batch: FlowBatch, captions: Captions, frames: torch.Tensor
) -> torch.Tensor:
    """Mean squared error of each row's velocity over its first `frames`, `(batch,)`."""
    point = interpolate(batch.noise, batch.latents, batch.t)
    text = captions.rows(batch.texts, point.device)
    prediction = network(point, batch.t, text, batch.frames)
    mask = torch.arange(point.shape[1], device=point.device) < frames[:, None]
    target = velocity_target(batch.noise, batch.latents)
    return flow_matching_loss(prediction, target, mask, reduction="none")


def train(
    network: nn.Module,
    encoded: EncodedClips,
    clips: ProbeClips,
    captions: Captions,
    settings: ProbeSettings,
    seed: int,
    device: torch.device,
    step: Callable[[], object] = lambda: None,
) -> Iterator[TrainedNetwork]:
    """Train `network` and give a copy of it with averaged weights at each budget.

    Raises `ValueError` when the loss is not finite.
    """
    network.to(device).train()
    batches = FlowBatches(encoded, network.window, device)
    matrices = [weight for weight in network.parameters() if weight.ndim >= 2]
    others = [weight for weight in network.parameters() if weight.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices}, {"params": others, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=BETAS,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    average = EMAModel(
        network.parameters(), decay=settings.ema_decay, use_ema_warmup=True, power=EMA_POWER, foreach=True
    )
    order = iter(EndlessShuffle(encoded.num_training, seed))
    started, judged = time.perf_counter(), 0.0
    for number in range(1, settings.budgets[-1] + 1):
        batch = _training_batch(batches, islice(order, settings.batch_size), clips, settings, seed)
        with autocast(device, settings.precision):
            counted = (
                batch.frames if network.window is None else torch.full_like(batch.frames, network.window)
            )
            losses = row_losses(network, batch, captions, counted)
        loss = (losses * counted).sum() / counted.sum()
        if not math.isfinite(loss.item()):
            raise ValueError(f"the loss is {loss.item()} at step {number}: try a smaller `learning_rate`.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min(1.0, number / max(1, settings.warmup_steps))
        optimizer.step()
        average.step(network.parameters())
        step()
        if number in settings.budgets:
            seconds = time.perf_counter() - started - judged
            evaluated = copy.deepcopy(network).eval()
            average.copy_to(evaluated.parameters())
            pause = time.perf_counter()
            yield TrainedNetwork(evaluated, number, seconds)
            judged += time.perf_counter() - pause


def _training_batch(
    batches: FlowBatches,
    keys: Iterator[tuple[int, int]],
    clips: ProbeClips,
    settings: ProbeSettings,
    seed: int,
) -> FlowBatch:
    chosen, texts, generators, normal = [], [], [], []
    for epoch, index in keys:
        generator = torch.Generator().manual_seed(noise_seed(seed, epoch, index))
        dropout, choice = torch.rand(2, generator=generator).tolist()
        normal.append(torch.randn((), generator=generator))
        options = clips.training.captions[index]
        texts.append("" if dropout < settings.caption_dropout else options[int(choice * len(options))])
        chosen.append(index)
        generators.append(generator)
    return batches.make(chosen, texts, generators, logit_normal_times(torch.stack(normal)))


@torch.no_grad()
def validate(
    network: nn.Module,
    encoded: EncodedClips,
    clips: ProbeClips,
    captions: Captions,
    settings: ProbeSettings,
    device: torch.device,
) -> FlowReport:
    """The loss on held-out clips, in float32, at noise and times that belong to the clip and nothing else."""
    batches = FlowBatches(encoded, network.window, device)
    draws = [
        (clip, number) for number in range(settings.validation_draws) for clip in range(len(clips.held_out))
    ]
    quantiles = shuffled_quantiles(len(draws), settings.seed)
    losses, floors, frames = [], [], []
    for start in range(0, len(draws), settings.batch_size):
        own = draws[start : start + settings.batch_size]
        generators = [
            torch.Generator().manual_seed(noise_seed(settings.seed, clip, number, VALIDATION_STREAM))
            for clip, number in own
        ]
        t = logit_normal_quantiles(quantiles[start : start + settings.batch_size]).float()
        batch = batches.make(
            [encoded.num_training + clip for clip, _ in own],
            [clips.held_out.captions[clip][0] for clip, _ in own],
            generators,
            t,
        )
        losses.append(row_losses(network, batch, captions, batch.frames).cpu())
        floors += [posterior_floor(time, std).mean() for time, std in zip(t, batch.noise_std, strict=True)]
        frames += batch.frames.tolist()
    return flow_report(
        torch.cat(losses),
        torch.stack(floors),
        quantiles,
        frames,
        encoded.channels * encoded.frame_rate,
    )
