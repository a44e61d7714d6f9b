"""Stable Audio's diffusion transformer with its conditioning, and the objectives it can be trained with."""

import json
import math
from pathlib import Path
from typing import Protocol

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    SchedulerMixin,
    StableAudioDiTModel,
    StableAudioPipeline,
    StableAudioProjectionModel,
)
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import nn

from ..flow import interpolate, rotate, v_target, velocity_target

NUM_TIMESTEPS = 1000
#: Times nearer to the ends have no finite noise level.
TIME_MARGIN = 1e-4


class Objective(Protocol):
    """What the transformer sees and predicts at a time t from 0, noise, to 1, data."""

    def point(self, noise: torch.Tensor, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Its input on the path between noise and latents."""

    def target(self, noise: torch.Tensor, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The velocity that it learns to predict, in the direction of the noise as diffusers has it."""

    def timestep(self, t: torch.Tensor) -> torch.Tensor:
        """The number that tells it the time, as `scheduler` will."""

    def scheduler(self) -> SchedulerMixin:
        """Samples with what it has learned, in diffusers' `StableAudioPipeline`."""


class RectifiedFlow:
    """The straight path. The scheduler counts its noise level 1 - t in thousandths."""

    def point(self, noise: torch.Tensor, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return interpolate(noise, latents, t)

    def target(self, noise: torch.Tensor, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return -velocity_target(noise, latents)

    def timestep(self, t: torch.Tensor) -> torch.Tensor:
        return NUM_TIMESTEPS * (1 - t)

    def scheduler(self) -> DPMSolverMultistepScheduler:
        # FlowMatchEulerDiscreteScheduler lacks `init_noise_sigma` and `scale_model_input`
        return DPMSolverMultistepScheduler(
            num_train_timesteps=NUM_TIMESTEPS, prediction_type="flow_prediction", use_flow_sigmas=True
        )


class VPrediction:
    """The circular path, at the angle φ = (1 - t) π/2, as Stable Audio Open is trained.

    The noise level is told as EDM's ¼ ln tan φ, not as Stable Audio Open's 2φ/π: that one's scheduler,
    `CosineDPMSolverMultistepScheduler`, needs torchsde, and is random at every step.
    """

    def point(self, noise: torch.Tensor, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return rotate(noise, latents, self._angle(t))

    def target(self, noise: torch.Tensor, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return v_target(noise, latents, self._angle(t))

    def timestep(self, t: torch.Tensor) -> torch.Tensor:
        return 0.25 * self._angle(t).tan().log()

    def scheduler(self) -> EDMDPMSolverMultistepScheduler:
        return EDMDPMSolverMultistepScheduler(
            sigma_min=0.3,
            sigma_max=500.0,
            sigma_data=1.0,
            sigma_schedule="exponential",
            prediction_type="v_prediction",
        )

    def _angle(self, t: torch.Tensor) -> torch.Tensor:
        return (1 - t.clamp(TIME_MARGIN, 1 - TIME_MARGIN)) * math.pi / 2


OBJECTIVES: dict[str, Objective] = {"rectified_flow": RectifiedFlow(), "v": VPrediction()}


class ConditionedDiT(nn.Module):
    """The transformer and the projection of its conditions, as `StableAudioPipeline` puts them together.

    Both are trained; the text encoder in front of them is not.
    """

    def __init__(self, transformer: StableAudioDiTModel, projection: StableAudioProjectionModel) -> None:
        super().__init__()
        self.transformer, self.projection = transformer, projection
        # one position more than frames, for the token that holds time and duration
        cosine, sine = get_1d_rotary_pos_embed(
            transformer.config.attention_head_dim // 2,
            transformer.config.sample_size + 1,
            use_real=True,
            repeat_interleave_real=False,
        )
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        text_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor,
        seconds: torch.Tensor,
        has_text: torch.Tensor,
    ) -> torch.Tensor:
        """What the objective asks for, `(batch, channels, sample_size)`.

        Args:
            latents: on the path, `(batch, channels, sample_size)`.
            timestep: `(batch,)`.
            text_hidden_states: of the text encoder, `(batch, tokens, text_dim)`.
            attention_mask: `(batch, tokens)`, true for real tokens.
            seconds: where each clip ends, `(batch,)`; it begins at 0.
            has_text: `(batch,)`, false for the unconditional branch of guidance.
        """
        text = self.projection(text_hidden_states=text_hidden_states).text_hidden_states
        text = text * attention_mask[:, :, None].to(text.dtype)
        span = self.projection(start_seconds=torch.zeros_like(seconds), end_seconds=seconds)
        start, end = span.seconds_start_hidden_states, span.seconds_end_hidden_states
        # without a negative prompt the pipeline takes zeros for all that the transformer attends to
        conditions = torch.cat([text, start, end], dim=1) * has_text[:, None, None].to(text.dtype)
        return self.transformer(
            latents,
            timestep,
            encoder_hidden_states=conditions,
            global_hidden_states=torch.cat([start, end], dim=2),
            rotary_embedding=(self.cosine, self.sine),
            return_dict=False,
        )[0]


def make_dit(
    channels: int,
    sample_size: int,
    frame_rate: float,
    text_dim: int,
    conditioning_dim: int,
    objective: str,
    settings: dict,
) -> ConditionedDiT:
    """A new transformer for `sample_size` frames of `channels`, and the projection of its conditions."""
    transformer = StableAudioDiTModel(
        sample_size=sample_size,
        in_channels=channels,
        out_channels=channels,
        cross_attention_input_dim=conditioning_dim,
        global_states_input_dim=2 * conditioning_dim,
        **settings,
    )
    if objective == "rectified_flow":
        # its random frequencies are made for times between 0 and 1
        transformer.time_proj.weight.data /= NUM_TIMESTEPS
    longest = math.ceil(sample_size / frame_rate)
    projection = StableAudioProjectionModel(text_dim, conditioning_dim, min_value=0, max_value=longest)
    return ConditionedDiT(transformer, projection)


def save_pipeline(pipeline: StableAudioPipeline, folder: Path) -> None:
    """Write a `from_pretrained` folder, in which our classes have short names that stay."""
    pipeline.save_pretrained(folder, safe_serialization=True)
    path = folder / pipeline.config_name
    index = json.loads(path.read_text(encoding="utf-8"))
    for name, value in index.items():
        if isinstance(value, list) and isinstance(value[0], str) and value[0].startswith("star_hf."):
            index[name] = ["star_hf", value[1]]
    path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
