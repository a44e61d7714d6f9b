"""The models that are measured: full size with random weights, the embedded checkpoint, and tiny ones."""

from __future__ import annotations

import torch
from diffusers import AutoencoderOobleck, FlowMatchEulerDiscreteScheduler
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen3Config
from transformers.initialization import no_init_weights

from star_hf import StarGenPipeline, embedded_checkpoint
from star_hf.autoencoder import AutoencoderStar
from star_hf.generation import StarGenConfig, StarGenModel

FULL_NAME, EMBEDDED_NAME, TINY_NAME = "Stable Audio Open's size", "embedded checkpoint", "tiny"
# Narrow, but with Stable Audio Open's hop of 2048 samples.
TINY_CODEC = {"encoder_hidden_size": 8, "decoder_channels": 8, "decoder_input_channels": 4}
TINY_CONTEXT = {"context_hidden_size": 32}
QWEN3_06B = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 40960,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
TINY_QWEN3 = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "vocab_size": 512,
}
WORDS = 300


def make_oobleck(tiny: bool) -> AutoencoderOobleck:
    """diffusers' autoencoder with random weights, and snakes that are not all alike."""
    torch.manual_seed(0)
    peer = AutoencoderOobleck(**(TINY_CODEC if tiny else {})).eval()
    vary_snakes(peer)
    return peer


def make_autoencoder(size: str) -> AutoencoderStar:
    """Ours with its weight norm folded: by default `"full"`, or `"embedded"`, or `"tiny"`.

    Random models have the default Mamba stack, whose last projection, zero at the start, is random, too.
    """
    if size == "embedded":
        vae = AutoencoderStar.from_pretrained(embedded_checkpoint(), subfolder="vae")
        return vae.eval().fold_weight_norm()
    torch.manual_seed(0)
    vae = AutoencoderStar(**({**TINY_CODEC, **TINY_CONTEXT} if size == "tiny" else {})).eval()
    vary_snakes(vae)
    for half in (vae.encoder, vae.decoder):
        nn.init.normal_(half.context.out_proj.weight, std=0.02)
    return vae.fold_weight_norm()


@torch.no_grad()
def vary_snakes(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith((".alpha", ".beta")):
            parameter.normal_(std=0.3)


def size_name(size: str) -> str:
    return {"full": FULL_NAME, "embedded": EMBEDDED_NAME, "tiny": TINY_NAME}[size]


def make_generator(tiny: bool, latent_channels: int = 64) -> StarGenModel:
    """STAR-Gen around a Qwen3 of 0.6B parameters, or a tiny one, with random weights."""
    text_config = Qwen3Config(**(TINY_QWEN3 if tiny else QWEN3_06B))
    config = StarGenConfig(text_config=text_config, latent_channels=latent_channels, max_text_tokens=256)
    torch.manual_seed(0)
    # Once by hand instead of twice: the defaults of each layer, then those of Qwen3.
    with no_init_weights():
        model = StarGenModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02)
            elif name.endswith("bias"):
                parameter.zero_()
    return model.eval()


def make_pipeline(
    tiny: bool, device: torch.device, dtype: torch.dtype, vae: AutoencoderStar | None = None
) -> StarGenPipeline:
    """A pipeline with random weights that reads `prompt_of`; without a `vae` of its own for latents only."""
    if vae is None:
        # Of Stable Audio Open's layout, which decides how many latents there are, and small.
        channels = {} if tiny else {"decoder_input_channels": 64}
        torch.manual_seed(0)
        vae = AutoencoderStar(**{**TINY_CODEC, **channels}, context_type="none").eval()
    pipeline = StarGenPipeline(
        vae=vae,
        model=make_generator(tiny, vae.config.decoder_input_channels),
        tokenizer=word_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device, dtype)


def embedded_pipeline(device: torch.device, dtype: torch.dtype) -> StarGenPipeline:
    pipeline = StarGenPipeline.from_pretrained(embedded_checkpoint(), dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.fold_weight_norm()
    return pipeline.to(device)


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word of `prompt_of`."""
    vocabulary = {"<pad>": 0, "<unk>": 1, **{f"w{index}": 2 + index for index in range(WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", padding_side="left"
    )


def prompt_of(tokens: int, first: int = 0) -> str:
    """A prompt of so many tokens."""
    return " ".join(f"w{(first + index) % WORDS}" for index in range(tokens))
