"""Train STAR-Gen by flow matching on a latent dataset, and export a StarGenPipeline.

python training/train_generator.py --config training/recipes/esc10_generator.yaml
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from datasets import Dataset
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen3Config

from arguments import check_keywords, group, option
from run_log import RunLog
from run_setup import TrainingArguments, check_loss_weights
from star_hf.data import (
    BadFiles,
    EndlessShuffle,
    LatentCollator,
    LatentDataset,
    LatentInfo,
    open_latents,
    row_captions,
    split_for_validation,
    vae_fingerprint,
)
from star_hf.flow import flow_matching_loss, interpolate, sample_times, velocity_target
from star_hf.generation import StarGenConfig, StarGenModel, StarGenPipeline, tokenize_prompts
from tokenizer import train_tokenizer
from trainer import StepOutput, run_script
from vae_loading import load_vae

LOSSES = ("flow",)
FROM_LATENTS = ("latents_mean", "latents_std", "frame_rate", "sampling_rate")
EXPORT_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass
class LatentDataArguments:
    source: str = option("", "folder that encode_latents.py wrote")
    text_column: str = option("text", "column with the caption, or a list of captions to choose from")
    share_captions_by: str | None = option(None, "rows with equal values in this column share their captions")
    captions: dict[str, list[str]] = option({}, "further captions by value of share_captions_by")
    caption_dropout: float = option(0.1, "share of clips with the empty prompt, for guidance")
    crop_frames: int | None = option(None, "longer clips give a random crop of this many frames")
    batch_size: int = option(32, "clips per batch and process")
    num_workers: int = option(0, "processes that read latents; 0 reads in the training process")
    validation_fraction: float = option(0.05, "share held out; 0 for none")
    validation_key: str | None = option(None, "column whose equal values are held out together")


@dataclass
class TimeArguments:
    mean: float = option(0.0, "logit(t) is normal with this mean; t = 0 is noise, 1 is data")
    std: float = option(1.0, "and this standard deviation")


@dataclass
class GeneratorArguments(TrainingArguments):
    vae: str = option(
        "", "autoencoder the latents come from: a run's folder, a model's folder, or a Hub name"
    )
    backbone: str | None = option(None, "pretrained Qwen3: a folder or a Hub name; default: from scratch")
    text_config: dict[str, Any] = option({}, "from scratch: what differs from Qwen3Config's defaults")
    model: dict[str, Any] = option({}, "what differs from StarGenConfig's defaults")
    tokenizer: str | None = option(
        None, "folder or Hub name; default: the backbone's, or one trained on captions"
    )
    vocab_size: int = option(1024, "largest size of a tokenizer trained on the captions")
    data: LatentDataArguments = group(LatentDataArguments)
    losses: dict[str, float] = option({"flow": 1.0}, "weights")
    times: TimeArguments = group(TimeArguments)
    export_dtype: str = option("float32", f"of the exported weights: {', '.join(EXPORT_DTYPES)}")

    def check(self) -> None:
        super().check()
        check_loss_weights(self.losses, LOSSES)
        check_keywords("text_config", self.text_config, Qwen3Config)
        check_keywords("model", self.model, StarGenConfig, ("text_config", "latent_channels", *FROM_LATENTS))
        for name, value in (("vae", self.vae), ("data.source", self.data.source)):
            if not value:
                raise ValueError(f"{name} is missing")
        if self.export_dtype not in EXPORT_DTYPES:
            raise ValueError(
                f"export_dtype must be one of {', '.join(EXPORT_DTYPES)}, got {self.export_dtype!r}"
            )
        if self.backbone is not None and self.text_config:
            raise ValueError("a pretrained backbone brings its own text_config: leave it empty")


class GeneratorTask:
    """Velocities of latents under captions."""

    def __init__(self, arguments: GeneratorArguments, log: RunLog) -> None:
        self.arguments = arguments
        self.loss_weights = arguments.losses
        rows, self.info = open_latents(arguments.data.source)
        self.vae = load_vae(arguments.vae)
        refuse_other_vae(self.vae, self.info, arguments)
        self.training, self.validation = self._datasets(rows)
        self.bad_files = BadFiles(len(self.training))
        self.tokenizer = load_tokenizer(arguments, [text for row in self.training.captions for text in row])
        self.module = make_model(arguments, self.info, self.tokenizer).train()
        max_tokens = self.module.config.max_text_tokens
        self.collate = LatentCollator(partial(tokenize_prompts, self.tokenizer, max_tokens=max_tokens))
        held_out = len(self.validation) if self.validation is not None else 0
        log.say(
            f"{len(self.training)} rows to train on, {held_out} held out; vocabulary {len(self.tokenizer)}"
        )

    def _datasets(self, rows: Dataset) -> tuple[LatentDataset, LatentDataset | None]:
        data, seed = self.arguments.data, self.arguments.seed
        captions = row_captions(rows, data.text_column, data.share_captions_by, data.captions)
        rows = rows.add_column("row", range(len(rows)))
        training, validation = split_for_validation(
            rows, data.validation_fraction, key_column=data.validation_key or "row"
        )

        def latents(part: Dataset, dropout: float) -> LatentDataset:
            own = [captions[index] for index in part["row"]]
            return LatentDataset(
                part, self.info, own, crop_frames=data.crop_frames, caption_dropout=dropout, seed=seed
            )

        held_out = latents(validation, 0.0) if validation is not None else None
        return latents(training, data.caption_dropout), held_out

    def batches(self, start: int, rank: int, world_size: int) -> Iterable[dict[str, Any]]:
        data = self.arguments.data
        first = start * data.batch_size * world_size
        return DataLoader(
            self.training,
            batch_size=data.batch_size,
            sampler=EndlessShuffle(len(self.training), self.arguments.seed, first, rank, world_size),
            collate_fn=self.collate,
            num_workers=data.num_workers,
            # without its own a loader draws from the global generator, and a resumed run would diverge
            generator=torch.Generator().manual_seed(self.arguments.seed),
            pin_memory=torch.cuda.is_available(),
        )

    def compute(self, module: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        latents, audio_mask = batch["latents"], batch["audio_mask"]
        noise = torch.randn_like(latents)
        times = self.arguments.times
        t = sample_times(latents.shape[0], times.mean, times.std, device=latents.device)
        velocity = module(
            interpolate(noise, latents, t), t, batch["input_ids"], batch["attention_mask"], audio_mask
        ).velocity
        loss = flow_matching_loss(velocity.float(), velocity_target(noise, latents), audio_mask)
        return StepOutput({"flow": loss}, audio_seconds=int(audio_mask.sum()) / self.info.frame_rate)

    def validate(self, device: torch.device) -> dict[str, float]:
        """The training loss over the held-out clips, at the same noise and times each time."""
        if self.validation is None:
            return {}
        loader = DataLoader(
            self.validation, batch_size=self.arguments.data.batch_size, collate_fn=self.collate
        )
        total, frames = 0.0, 0
        for batch in loader:
            batch = send_to_device(batch, device)
            count = int(batch["audio_mask"].sum())
            total += float(self.compute(self.module, batch, 0).losses["flow"]) * count
            frames += count
        return {"flow": total / frames}

    def export(self, folder: Path) -> None:
        """A complete pipeline; weights are rounded to `export_dtype` on the way to the file only."""
        dtype = EXPORT_DTYPES[self.arguments.export_dtype]
        pipeline = StarGenPipeline(
            vae=self.vae,
            model=self.module,
            tokenizer=self.tokenizer,
            scheduler=FlowMatchEulerDiscreteScheduler(),
        )
        pipeline.save_pretrained(folder)
        for weights in folder.glob("*/*.safetensors"):
            round_weights(weights, dtype)


def refuse_other_vae(vae: nn.Module, info: LatentInfo, arguments: GeneratorArguments) -> None:
    """Latents mean something only to the autoencoder that made them."""
    fingerprint = vae_fingerprint(vae)
    if fingerprint != info.vae_fingerprint:
        raise ValueError(
            f"the latents in {arguments.data.source!r} were made by another autoencoder than vae "
            f"{arguments.vae!r}: fingerprint {info.vae_fingerprint[:12]}… there, {fingerprint[:12]}… here"
        )


def load_tokenizer(arguments: GeneratorArguments, captions: list[str]) -> PreTrainedTokenizerBase:
    """The tokenizer named by the arguments, else one trained on the captions."""
    name = arguments.tokenizer or arguments.backbone
    if name is None:
        return train_tokenizer(captions, arguments.vocab_size)
    return AutoTokenizer.from_pretrained(name, padding_side="left")


def make_model(
    arguments: GeneratorArguments, info: LatentInfo, tokenizer: PreTrainedTokenizerBase
) -> StarGenModel:
    """A StarGenModel around a pretrained Qwen3, or around a new one with the tokenizer's vocabulary."""
    shared = {name: getattr(info, name) for name in FROM_LATENTS} | arguments.model
    channels = info.latent_channels
    if arguments.backbone is not None:
        return StarGenModel.from_backbone(
            arguments.backbone, channels, config_kwargs=shared, dtype=torch.float32
        )
    text_config = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        **arguments.text_config,
    }
    return StarGenModel(StarGenConfig(text_config=text_config, latent_channels=channels, **shared))


def round_weights(path: Path, dtype: torch.dtype) -> None:
    """Round the floating-point tensors of a safetensors file to `dtype`.

    The configuration beside it keeps float32, so that the weights are computed with in float32 unless asked
    for less: processors are slow in float16.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    rounded = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()
    }
    overflowing = [name for name, value in rounded.items() if not bool(torch.isfinite(value).all())]
    if overflowing:
        raise ValueError(f"export_dtype {dtype} is too small for {', '.join(overflowing)}")
    save_file(rounded, path, metadata=metadata)


def main(argv: list[str] | None = None) -> None:
    run_script(GeneratorArguments, GeneratorTask, argv)


if __name__ == "__main__":
    main()
