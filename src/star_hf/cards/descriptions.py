"""Parts of a model in a line each, from facts of their configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def describe_autoencoder(facts: Mapping[str, Any]) -> str:
    """Its latents and what stands around the CNN, in a line."""
    told = []
    if facts["latent_channels"] and facts["hop_length"]:
        rate = facts["sampling_rate"] / facts["hop_length"]
        told.append(
            f"{facts['latent_channels']} latent channels at {rate:.3g} frames per second "
            f"(hop {facts['hop_length']})"
        )
    if facts.get("inner_class"):
        told.append(
            f"ViT and flow decoder of {facts['decoder_steps']} steps around a frozen {facts['inner_class']}"
        )
    if facts.get("filterbank_bands", 1) > 1:
        excited = " with noise excitation" if facts.get("filterbank_type") == "noise_excited" else ""
        told.append(f"{facts['filterbank_bands']}-band filter bank{excited} in front")
    if facts.get("linear_shortcut"):
        told.append("a linear path around the CNN")
    if facts.get("context_type", "none") != "none":
        layers = facts["num_context_layers"]
        told.append(
            f"{layers} context layer{'s' if layers != 1 else ''} ({facts['context_type']}) on each side"
        )
    if facts.get("bottleneck", "gaussian") != "gaussian":
        sigma = f" of {facts['sigma']:g}" if facts.get("sigma") else ""
        told.append(f"bottleneck {facts['bottleneck'].replace('_', ' ')}{sigma}")
    return ", ".join(told) or "audio autoencoder"


def describe_generator(facts: Mapping[str, Any]) -> str:
    """The size of the Qwen3 decoder, in a line."""
    return (
        f"Qwen3 decoder: {facts['layers']} layers of width {facts['hidden_size']}, "
        f"{facts['attention_heads']} heads; a vocabulary of {facts['vocabulary']}"
    )


def describe_adapter(facts: Mapping[str, Any]) -> str:
    """What was trained beside the frozen backbone, in a line."""
    heads = "embedding of the audio tokens and flow head"
    if "rank" not in facts:
        return f"{heads}, around a frozen backbone"
    return f"LoRA of rank {facts['rank']} (α {facts['alpha']:g}) on {', '.join(facts['modules'])}; {heads}"
