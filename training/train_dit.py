"""Train diffusers' Stable Audio DiT on the latents of any autoencoder, and export a StableAudioPipeline.

python training/train_dit.py --config training/recipes/dit.yaml --vae runs/vae --data.source latents

As with Stable Audio Open, every clip is followed by silence up to the length of the model's window, the loss
counts that silence, and latents are learned as they are: the pipeline decodes what was generated without any
normalization. The schedulers expect latents of about unit variance.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from diffusers import StableAudioDiTModel, StableAudioPipeline
from torch import nn
from transformers import AutoTokenizer, T5EncoderModel

from engine import publishing
from engine.arguments import check_keywords, group, option
from engine.noise import SampleNoise
from engine.run_setup import TrainingArguments
from engine.script import run_script
from loaders.encoded_audio import EncodedAudio
from loaders.generator_data import GeneratorData, LatentDataArguments
from loaders.latent_data import open_data
from star_hf.flow import flow_matching_loss
from star_hf.generation.dit import OBJECTIVES, ConditionedDiT, make_dit, save_pipeline
from star_hf.generation.vae_interface import latent_layout
from tasks.vae_loading import load_vae
from tasks.velocity_task import ReportArguments, TimeArguments, VelocityTask

DIT = "dit"
#: What the script fills in itself.
FROM_DATA = (
    "sample_size",
    "in_channels",
    "out_channels",
    "cross_attention_input_dim",
    "global_states_input_dim",
)


@dataclass
class DiTArguments(TrainingArguments):
    vae: str = option("", "autoencoder of the latents: a run's folder, a model's folder, or a Hub name")
    text_encoder: str = option("google-t5/t5-base", "frozen T5 with its tokenizer: a folder or a Hub name")
    max_text_tokens: int = option(128, "prompts are cut and padded to this many tokens")
    conditioning_dim: int = option(768, "width of the projected text and durations")
    transformer: dict[str, Any] = option({}, "what differs from StableAudioDiTModel's defaults")
    objective: str = option("rectified_flow", f"also the loss's name: {', '.join(OBJECTIVES)}")
    data: LatentDataArguments = group(LatentDataArguments)
    times: TimeArguments = group(TimeArguments)
    report: ReportArguments = group(ReportArguments, guidance_scale=7.0)

    def check(self) -> None:
        super().check()
        check_keywords("transformer", self.transformer, StableAudioDiTModel, FROM_DATA)
        for part in (self.data, self.times, self.report):
            part.check()
        if not self.vae:
            raise ValueError("vae is missing: the autoencoder of the latents")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}")
        for name in ("max_text_tokens", "conditioning_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.data.source and self.data.audio.max_seconds is None:
            raise ValueError("data.audio.max_seconds is missing: the length of the model's window")


class DiTTask(VelocityTask):
    """Velocities of latents in a window of fixed length, under captions and durations."""

    def __init__(self, arguments: DiTArguments, log: Any) -> None:
        self.arguments = arguments
        self.objective = OBJECTIVES[arguments.objective]
        self.vae = load_vae(arguments.vae).requires_grad_(False)
        self.tokenizer = AutoTokenizer.from_pretrained(arguments.text_encoder)
        # the pipeline pads prompts to this length, and so does training
        self.tokenizer.model_max_length = arguments.max_text_tokens
        text_encoder = T5EncoderModel.from_pretrained(arguments.text_encoder, use_safetensors=True)
        self.text_encoder = text_encoder.eval().requires_grad_(False)

        channels = latent_layout(self.vae).latent_channels
        as_they_are = ([0.0] * channels, [1.0] * channels)
        # every row has the same length: sorting would only make batches less mixed
        settings = replace(arguments.data, bucket_window=0)
        data = open_data(settings, self.vae, arguments.vae, arguments.seed, log.say, as_they_are)
        self.sample_size = window_frames(arguments.data, data)
        model = make_dit(
            channels,
            self.sample_size,
            data.frame_rate,
            self.text_encoder.config.d_model,
            arguments.conditioning_dim,
            arguments.objective,
            arguments.transformer,
        )
        if arguments.gradient_checkpointing:
            model.transformer.enable_gradient_checkpointing()
        self.loss_weights = {arguments.objective: 1.0}
        super().__init__(
            DIT,
            model.train(),
            arguments.objective,
            data,
            self.tokenize_prompts,
            arguments.times,
            arguments.report,
            arguments.seed,
        )
        longest = self.sample_size / data.frame_rate
        if arguments.report.seconds is not None and arguments.report.seconds > longest:
            raise ValueError(f"report.seconds must be at most {longest:g}, got {arguments.report.seconds}")
        self.silence = self._encode_silence(PartialState().device)
        log.say(f"window of {self.sample_size} frames, {longest:.2f} s; objective {arguments.objective}")

    def tokenize_prompts(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        return tokens["input_ids"], tokens["attention_mask"]

    @torch.no_grad()
    def _encode_silence(self, device: torch.device) -> torch.Tensor:
        """Latents of silence `(sample_size, channels)`, which follows clips that are shorter."""
        samples = self.sample_size * self.data.layout.hop_length
        zeros = torch.zeros(1, self.vae.config.audio_channels, samples, device=device)
        return self.vae.to(device).encode(zeros).latent_dist.mean[0].T.float()

    def counted_frames(self, batch: dict[str, Any]) -> list[int]:
        return [self.sample_size] * len(batch["num_frames"])

    def width(self, batch: dict[str, Any]) -> int:
        return self.sample_size

    def row_errors(
        self, module: nn.Module, batch: dict[str, Any], noise: SampleNoise, t: torch.Tensor
    ) -> torch.Tensor:
        latents = self.windows(batch)
        start = noise.normal(*latents.shape[1:])
        seconds = torch.tensor(batch["num_frames"], device=latents.device) / self.data.frame_rate
        with torch.no_grad():
            self.text_encoder.to(latents.device)
            text = self.text_encoder(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        prediction = module(
            self.objective.point(start, latents, t).mT,
            self.objective.timestep(t),
            text,
            batch["attention_mask"],
            seconds,
            torch.tensor([bool(caption) for caption in batch["text"]], device=latents.device),
        ).mT
        return flow_matching_loss(prediction, self.objective.target(start, latents, t), reduction="none")

    def windows(self, batch: dict[str, Any]) -> torch.Tensor:
        """The batch's latents with silence after each clip, `(batch, sample_size, channels)`."""
        latents, mask = self.data.latents(batch)
        missing = self.sample_size - latents.shape[1]
        latents = nn.functional.pad(latents, (0, 0, 0, missing))
        mask = nn.functional.pad(mask, (0, missing))
        return torch.where(mask[:, :, None], latents, self.silence.to(latents.device))

    def generate(
        self, prompts: list[str], generators: list[torch.Generator], device: torch.device
    ) -> torch.Tensor:
        settings = self.arguments.report
        return self._pipeline(device)(
            prompts,
            audio_end_in_s=settings.seconds,
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            generator=generators,
        ).audios

    def _pipeline(self, device: torch.device) -> StableAudioPipeline:
        model: ConditionedDiT = self.modules[DIT]
        pipeline = StableAudioPipeline(
            vae=self.vae.to(device),
            text_encoder=self.text_encoder.to(device),
            projection_model=model.projection,
            tokenizer=self.tokenizer,
            transformer=model.transformer,
            scheduler=self.objective.scheduler(),
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def export(self, folder: Path) -> None:
        save_pipeline(self._pipeline(self.vae.device), folder)


def window_frames(arguments: LatentDataArguments, data: GeneratorData) -> int:
    """Frames of the model's window: those of the longest clip that the data give."""
    if isinstance(data, EncodedAudio):
        return math.ceil(arguments.audio.max_seconds * data.frame_rate)
    lengths = [part.lengths().max() for part in (data.training, data.validation) if part is not None]
    return int(max(lengths))


def main(argv: list[str] | None = None) -> None:
    run_script(DiTArguments, DiTTask, argv, exports=publishing.DIT)


if __name__ == "__main__":
    main()
