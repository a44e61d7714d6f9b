"""The generator of a run: how it begins, which of its weights train, and what is exported."""

import copy
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from engine.checkpoints import EXPORT_NAME
from loaders.generator_data import GeneratorData
from star_hf.data import vae_fingerprint
from star_hf.generation import (
    StarGenConfig,
    StarGenModel,
    StarGenPipeline,
    add_lora,
    has_lora,
    merge_lora,
    save_adapter_folder,
)
from star_hf.generation.tokenizer import train_tokenizer
from star_hf.generation.vae_interface import check_vae_fits, latent_layout
from star_hf.hub import resolve_model
from tasks.generator_arguments import FROM_LATENTS, GeneratorArguments
from tasks.vae_loading import load_vae

ADAPTER_FOLDER = "adapter"


def load_pretrained(
    source: str, vae: nn.Module, vae_name: str
) -> tuple[StarGenModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a StarGenPipeline; `ValueError` where its autoencoder is another than `vae`."""
    exported = Path(source) / EXPORT_NAME
    folder = resolve_model(exported if exported.is_dir() else source)
    model = StarGenModel.from_pretrained(folder, subfolder="model", dtype=torch.float32)
    check_vae_fits(latent_layout(vae), model.config)
    own = load_vae(str(folder / "vae"))
    if vae_fingerprint(own) != vae_fingerprint(vae):
        raise ValueError(f"init_from {source!r} was trained on another autoencoder than vae {vae_name!r}")
    return model, AutoTokenizer.from_pretrained(folder / "tokenizer", padding_side="left")


def load_tokenizer(arguments: GeneratorArguments, data: GeneratorData) -> PreTrainedTokenizerBase:
    """The tokenizer named by the arguments, else one trained on the captions."""
    name = arguments.tokenizer or arguments.backbone
    if name is not None:
        return AutoTokenizer.from_pretrained(name, padding_side="left")
    captions = [text for text in data.captions() if text]
    if not captions:
        raise ValueError("there are no captions to train a tokenizer on: give `tokenizer` or `backbone`")
    return train_tokenizer(captions, arguments.vocab_size)


def make_model(
    arguments: GeneratorArguments, data: GeneratorData, tokenizer: PreTrainedTokenizerBase
) -> StarGenModel:
    """A StarGenModel around a pretrained Qwen3, or around a new one with the tokenizer's vocabulary."""
    own = (*data.statistics, data.frame_rate, data.layout.sampling_rate)
    shared = dict(zip(FROM_LATENTS, own, strict=True)) | arguments.model
    channels = data.layout.latent_channels
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


def choose_trained_weights(model: StarGenModel, arguments: GeneratorArguments) -> None:
    """Freeze the backbone or put LoRA on it, as `mode` says; head and projections always train."""
    if arguments.mode == "full":
        return
    model.backbone.requires_grad_(False)
    model.backbone.to(getattr(torch, arguments.backbone_dtype))
    if arguments.mode == "lora":
        lora = arguments.lora
        add_lora(model, lora.rank, lora.alpha, lora.dropout, lora.target_modules)


def enable_checkpointing(model: StarGenModel) -> None:
    """Recompute the decoder's activations in the backward pass; transformers has renamed the switch."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def make_pipeline(vae: nn.Module, model: StarGenModel, tokenizer: PreTrainedTokenizerBase) -> StarGenPipeline:
    return StarGenPipeline(
        vae=vae, model=model, tokenizer=tokenizer, scheduler=FlowMatchEulerDiscreteScheduler()
    )


def export_pipeline(
    folder: Path,
    vae: nn.Module,
    model: StarGenModel,
    tokenizer: PreTrainedTokenizerBase,
    arguments: GeneratorArguments,
) -> None:
    """A plain pipeline, and after training with LoRA or a frozen backbone `adapter/` beside it.

    LoRA is merged in float32; then all weights are rounded to `export_dtype`, those of the adapter are not.
    """
    plain = model
    if arguments.mode != "full":
        plain = copy.deepcopy(model).float()
        if has_lora(plain):
            merge_lora(plain)
    make_pipeline(vae, plain, tokenizer).save_pretrained(folder)
    for weights in folder.glob("*/*.safetensors"):
        round_weights(weights, getattr(torch, arguments.export_dtype))
    if arguments.mode != "full":
        base = arguments.backbone or arguments.init_from
        save_adapter_folder(model, folder / ADAPTER_FOLDER, base="" if Path(base).exists() else base)


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
