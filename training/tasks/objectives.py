"""What is asked of the latents beside the regularizer: losses with weights of their own, trained along.

Each objective has a part without gradient, which looks at the batch, and a module on the latents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from engine.noise import SampleNoise
from star_hf.autoencoder import AutoencoderStar
from star_hf.losses import (
    CaptionEncoder,
    ContrastiveCritic,
    SemanticAlignment,
    SemanticTeacher,
    SignalRegressors,
)
from star_hf.regularizers import FlowProbe
from tasks.autoencoder_arguments import AutoencoderArguments

SEMANTIC = "semantic"


@dataclass
class Objective:
    """`module(latents, noise, **prepare(batch, frames, step))` is the loss.

    `prepare` runs without gradient; what it holds on to, such as a frozen teacher, is not saved.
    """

    module: nn.Module
    prepare: Callable[[dict[str, Any], int, int], dict[str, Any]]


class _OnLatents(nn.Module):
    """A loss module that needs no noise."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, latents: torch.Tensor, noise: SampleNoise, **targets: Any) -> torch.Tensor:
        return self.loss(latents, **targets)


class _OnFlow(nn.Module):
    """The flow probe with its noise and times."""

    def __init__(self, probe: FlowProbe) -> None:
        super().__init__()
        self.probe = probe

    def forward(self, latents: torch.Tensor, noise: SampleNoise, detach: bool) -> torch.Tensor:
        return self.probe(latents, noise.normal(*latents.shape[1:]), noise.normal(), detach=detach)


def make_objectives(arguments: AutoencoderArguments, vae: AutoencoderStar) -> dict[str, Objective]:
    """The objectives whose loss has a weight, by its name.

    Raises `ValueError` or `OSError` for a teacher or a text encoder that cannot be loaded.
    """
    makers = {
        SEMANTIC: _semantic,
        "regressors": _regressors,
        "contrastive": _contrastive,
        "flow_probe": _flow_probe,
    }
    return {name: make(arguments, vae) for name, make in makers.items() if arguments.losses.get(name)}


def _semantic(arguments: AutoencoderArguments, vae: AutoencoderStar) -> Objective:
    settings = arguments.semantic
    teacher = SemanticTeacher.from_pretrained(settings.teacher, layer=settings.layer)
    loss = SemanticAlignment(
        vae.config.decoder_input_channels,
        teacher.hidden_size,
        form=settings.form,
        frame_weight=settings.frame_weight,
        self_similarity_weight=settings.self_similarity_weight,
    )

    def prepare(batch: dict[str, Any], frames: int, step: int) -> dict[str, Any]:
        waveform = batch["waveform"]
        return {"features": teacher.to(waveform.device)(waveform, vae.sampling_rate, frames)}

    return Objective(_OnLatents(loss), prepare)


def _regressors(arguments: AutoencoderArguments, vae: AutoencoderStar) -> Objective:
    settings = arguments.regressors
    loss = SignalRegressors(
        vae.config.decoder_input_channels,
        vae.sampling_rate,
        audio_channels=vae.config.audio_channels,
        chroma_octaves=settings.chroma_octaves,
        chroma_weights=settings.chroma_weights,
        level_difference_weight=settings.level_difference_weight,
    )

    def prepare(batch: dict[str, Any], frames: int, step: int) -> dict[str, Any]:
        return {"targets": loss.targets(batch["waveform"], frames)}

    return Objective(_OnLatents(loss), prepare)


def _contrastive(arguments: AutoencoderArguments, vae: AutoencoderStar) -> Objective:
    settings = arguments.contrastive
    encoder = CaptionEncoder.from_pretrained(settings.text_encoder)
    loss = ContrastiveCritic(
        vae.config.decoder_input_channels, encoder.hidden_size, hidden_size=settings.hidden_size
    )

    def prepare(batch: dict[str, Any], frames: int, step: int) -> dict[str, Any]:
        captions = batch["text"]
        return {"text_embeddings": encoder.to(batch["waveform"].device)(captions), "captions": captions}

    return Objective(_OnLatents(loss), prepare)


def _flow_probe(arguments: AutoencoderArguments, vae: AutoencoderStar) -> Objective:
    settings = arguments.flow_probe
    probe = FlowProbe(
        vae.config.decoder_input_channels,
        hidden_size=settings.hidden_size,
        num_layers=settings.num_layers,
        num_heads=settings.num_heads,
    )
    return Objective(_OnFlow(probe), lambda batch, frames, step: {"detach": step < settings.detach_steps})
