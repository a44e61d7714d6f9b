"""Train STAR-Gen by flow matching, on encoded latents or straight from audio, and export a StarGenPipeline.

python training/train_generator.py --config training/recipes/esc10_generator.yaml
python training/train_generator.py --config training/recipes/generator_lora.yaml
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine import publishing
from engine.noise import SampleNoise
from engine.script import run_script
from loaders.latent_data import open_data
from star_hf.flow import flow_matching_loss, interpolate, velocity_target
from star_hf.generation import StarGenPipeline, tokenize_prompts
from tasks.generator_arguments import LOSS, GeneratorArguments
from tasks.generator_model import (
    choose_trained_weights,
    enable_checkpointing,
    export_pipeline,
    load_pretrained,
    load_tokenizer,
    make_model,
    make_pipeline,
)
from tasks.vae_loading import load_vae
from tasks.velocity_task import VelocityTask

GENERATOR = "generator"


class GeneratorTask(VelocityTask):
    """Velocities from noise to latents, under captions."""

    def __init__(self, arguments: GeneratorArguments, log: Any) -> None:
        self.arguments = arguments
        self.vae = load_vae(arguments.vae).requires_grad_(False)
        model = statistics = None
        if arguments.init_from is not None:
            model, self.tokenizer = load_pretrained(arguments.init_from, self.vae, arguments.vae)
            if model.config.latents_mean is not None:
                statistics = (model.config.latents_mean, model.config.latents_std)
        data = open_data(arguments.data, self.vae, arguments.vae, arguments.seed, log.say, statistics)
        if model is None:
            self.tokenizer = load_tokenizer(arguments, data)
            model = make_model(arguments, data, self.tokenizer)
        choose_trained_weights(model, arguments)
        if arguments.gradient_checkpointing:
            enable_checkpointing(model)
        self.loss_weights = arguments.losses
        super().__init__(
            GENERATOR,
            model.train(),
            LOSS,
            data,
            partial(tokenize_prompts, self.tokenizer, max_tokens=model.config.max_text_tokens),
            arguments.times,
            arguments.report,
            arguments.seed,
        )
        if self.prompts:
            self._pipeline(torch.device("cpu")).check_inputs(self.prompts, **self._sampling())
        log.say(f"vocabulary {len(self.tokenizer)}; mode {arguments.mode}")

    def row_errors(
        self, module: nn.Module, batch: dict[str, Any], noise: SampleNoise, t: torch.Tensor
    ) -> torch.Tensor:
        latents, mask = self.data.latents(batch)
        start = noise.normal(*latents.shape[1:], lengths=mask.sum(dim=1))
        velocity = module(
            interpolate(start, latents, t), t, batch["input_ids"], batch["attention_mask"], mask
        ).velocity
        return flow_matching_loss(velocity, velocity_target(start, latents), mask, reduction="none")

    def generate(
        self, prompts: list[str], generators: list[torch.Generator], device: torch.device
    ) -> torch.Tensor:
        return self._pipeline(device)(prompts, generator=generators, **self._sampling()).audios

    def _pipeline(self, device: torch.device) -> StarGenPipeline:
        pipeline = make_pipeline(self.vae.to(device), self.modules[GENERATOR], self.tokenizer)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _sampling(self) -> dict[str, Any]:
        settings = self.arguments.report
        return {
            "audio_length_in_s": settings.seconds,
            "num_inference_steps": settings.num_inference_steps,
            "guidance_scale": settings.guidance_scale,
        }

    def export(self, folder: Path) -> None:
        export_pipeline(folder, self.vae, self.modules[GENERATOR], self.tokenizer, self.arguments)


def main(argv: list[str] | None = None) -> None:
    run_script(GeneratorArguments, GeneratorTask, argv, exports=publishing.GENERATOR)


if __name__ == "__main__":
    main()
