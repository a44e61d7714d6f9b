"""What a model is made of: from the configuration of its folder, or from what its measurements say of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .descriptions import describe_adapter, describe_autoencoder, describe_generator
from .documents import Document
from .kinds import ADAPTER_CONFIG_FILE, HEADS_FILE, MODEL_INDEX, read_config
from .weights import measure_weights

OWN_CLASSES = ("StarGenPipeline", "StarGenModel", "AutoencoderStar", "AutoencoderLafa")
#: The names that autoencoders of diffusers have for one thing, in the order in which they count.
_NAMES = {
    "latent_channels": ("latent_channels", "decoder_input_channels", "codebook_dim", "latent_dim"),
    "sampling_rate": ("sampling_rate", "sample_rate"),
    "hop_length": ("hop_length", "downsampling_ratio"),
}
PARAMETER_TOLERANCE = 1e-3
#: Components of a pipeline that have no weights of their own to speak of.
_WITHOUT_WEIGHTS = ("tokenizer", "scheduler", "feature_extractor")


@dataclass(frozen=True)
class Part:
    """A part of a model: what it is called, what it is, how many parameters it has where that is known."""

    name: str
    description: str
    parameters: int | None


@dataclass(frozen=True)
class Architecture:
    """A model as its card tells it.

    Args:
        class_name: of the pipeline or of the model.
        parts: with weights.
        autoencoder: facts of the autoencoder: `latent_channels`, `hop_length`, `sampling_rate`,
            `audio_channels`, and what else its configuration has; empty where there is none.
        generator: facts of STAR-Gen: `layers`, `hidden_size`, `attention_heads`, `vocabulary`, …
        adapter: of an adapter: `rank`, `alpha`, `modules` of LoRA where there is any, and `base`.
        library: that its classes come from.
        size_in_mb: of all weights on disk.
    """

    class_name: str
    parts: tuple[Part, ...]
    autoencoder: Mapping[str, Any]
    generator: Mapping[str, Any]
    adapter: Mapping[str, Any]
    library: str = "star_hf"
    size_in_mb: float | None = None

    @property
    def sampling_rate(self) -> int | None:
        return self.autoencoder.get("sampling_rate") or self.generator.get("sampling_rate")

    @property
    def frame_rate(self) -> float | None:
        """Latent frames per second."""
        if self.autoencoder.get("hop_length"):
            return self.autoencoder["sampling_rate"] / self.autoencoder["hop_length"]
        return self.generator.get("frame_rate")

    @property
    def channels(self) -> str | None:
        return {1: "mono", 2: "stereo"}.get(self.autoencoder.get("audio_channels"))


def read_architecture(folder: Path, kind: str) -> Architecture:
    """What the configuration files and the headers of the weights in a folder say.

    Raises `ValueError` that names what is missing.
    """
    if kind == "pipeline":
        return _pipeline(folder)
    config = read_config(folder / "config.json")
    weights = measure_weights(folder)
    facts: dict[str, Mapping[str, Any]] = {"autoencoder": {}, "generator": {}, "adapter": {}}
    if kind in ("generator", "adapter"):
        class_name = "StarGenModel"
        facts["generator"] = _generator_facts(config)
        description = describe_generator(facts["generator"])
    else:
        class_name = str(config.get("_class_name"))
        facts["autoencoder"] = _autoencoder_facts(config, folder)
        description = describe_autoencoder(facts["autoencoder"])
    if kind == "adapter":
        facts["adapter"] = _adapter_facts(folder)
        description = describe_adapter(facts["adapter"])
    part = Part("autoencoder" if kind == "lafa" else kind, description, weights.parameters)
    return Architecture(
        class_name=class_name,
        parts=(part,),
        **facts,
        library=_library(class_name),
        size_in_mb=weights.size_in_bytes / 1e6,
    )


def measured_architecture(
    generation: Document | None, own: Document | None, audited: Document | None
) -> Architecture:
    """What the measurements say of a pipeline, or of the autoencoder `own` or `audited`."""
    if generation is not None:
        facts = generation["pipeline"]
        autoencoder, generator, parameters = facts["vae"], facts["model"], facts["parameters"]
        parts = (
            Part("autoencoder", describe_autoencoder(autoencoder), parameters["vae"]),
            Part("generator", describe_generator(generator), parameters["model"]),
        )
        return Architecture(
            "StarGenPipeline", parts, autoencoder, generator, {}, size_in_mb=facts["weights_mb"]
        )
    facts = audited if own is None else own
    if facts is None:
        raise ValueError("neither a generator nor an autoencoder was measured: there is nothing to tell")
    layout = {key: facts[key] for key in ("sampling_rate", "audio_channels", "hop_length")}
    layout["latent_channels"] = facts["latent_channels"] if own is not None else facts["latents"]["channels"]
    part = Part("autoencoder", describe_autoencoder(layout), facts["parameters"])
    return Architecture(facts["class"], (part,), layout, {}, {}, _library(facts["class"]))


def check_same(model: Architecture, measured: Architecture, folder: Path) -> None:
    """Raise `ValueError` when measurements are of another model than the one in `folder`."""
    for name, ours, theirs in (
        ("autoencoder", model.autoencoder, measured.autoencoder),
        ("generator", model.generator, measured.generator),
    ):
        if not ours or not theirs:
            continue
        for key in theirs:
            if key in ours and ours[key] != theirs[key]:
                raise ValueError(_another_model(folder, name, key, ours[key], theirs[key]))
    counts = {part.name: part.parameters for part in model.parts}
    for part in measured.parts:
        count = counts.get(part.name)
        # Files may hold a few numbers that are no parameters.
        if count and part.parameters and abs(count / part.parameters - 1) > PARAMETER_TOLERANCE:
            raise ValueError(_another_model(folder, part.name, "parameters", count, part.parameters))


def _another_model(folder: Path, name: str, key: str, ours: Any, theirs: Any) -> str:
    return (
        f"the measurements are of another model than {folder}: its {name} has {key} {ours}, the measured one "
        f"{theirs}"
    )


def _library(class_name: str) -> str:
    if class_name in OWN_CLASSES:
        return "star_hf"
    if not class_name.startswith("Autoencoder"):
        raise ValueError(
            f"a card can be made of {', '.join(OWN_CLASSES)} and diffusers' autoencoders, not {class_name}"
        )
    return "diffusers"


def _pipeline(folder: Path) -> Architecture:
    index = read_config(folder / MODEL_INDEX)
    parts: list[Part] = []
    autoencoder: Mapping[str, Any] = {}
    generator: Mapping[str, Any] = {}
    size = 0
    components = {
        name: entry for name, entry in index.items() if isinstance(entry, list) and entry[1] is not None
    }
    for name, (_, class_name) in components.items():
        if name in _WITHOUT_WEIGHTS:
            continue
        config = read_config(folder / name / "config.json")
        weights = measure_weights(folder / name)
        size += weights.size_in_bytes
        title, description = name.replace("_", " "), class_name
        if name == "vae":
            autoencoder = _autoencoder_facts(config, folder / name)
            title, description = "autoencoder", describe_autoencoder(autoencoder)
        elif config.get("model_type") == "star_gen":
            generator = _generator_facts(config)
            title, description = "generator", describe_generator(generator)
        parts.append(Part(title, description, weights.parameters or None))
    ours = any(entry[0] == "star_hf" for entry in components.values())
    return Architecture(
        class_name=str(index.get("_class_name")),
        parts=tuple(sorted(parts, key=lambda part: part.name)),
        autoencoder=autoencoder,
        generator=generator,
        adapter={},
        library="star_hf" if ours else "diffusers",
        size_in_mb=size / 1e6,
    )


def _autoencoder_facts(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for key, names in _NAMES.items():
        facts[key] = next((config[name] for name in names if config.get(name) is not None), None)
    if facts["hop_length"] is None and "downsampling_ratios" in config:
        facts["hop_length"] = config.get("filterbank_bands", 1) * math.prod(config["downsampling_ratios"])
    if facts["sampling_rate"] is None:
        raise ValueError(f"{folder / 'config.json'}: is of no audio autoencoder (it has no `sampling_rate`)")
    facts["audio_channels"] = config.get("audio_channels")
    for key in (
        "filterbank_bands",
        "filterbank_type",
        "linear_shortcut",
        "downsampling_ratios",
        "context_type",
        "num_context_layers",
        "bottleneck",
        "sigma",
        "decoder_steps",
        "regularizer",
    ):
        if key in config:
            facts[key] = config[key]
    if "inner_vae" in config:
        facts["inner_class"] = config["inner_vae"].get("_class_name")
    return facts


def _generator_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    text = config.get("text_config") or {}
    return {
        "layers": text.get("num_hidden_layers"),
        "hidden_size": text.get("hidden_size"),
        "attention_heads": text.get("num_attention_heads"),
        "vocabulary": text.get("vocab_size"),
        "latent_channels": config.get("latent_channels"),
        "sampling_rate": config.get("sampling_rate"),
        "frame_rate": config.get("frame_rate"),
    }


def _adapter_facts(folder: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(folder / HEADS_FILE, framework="np") as heads:
        facts: dict[str, Any] = {"base": (heads.metadata() or {}).get("base_model") or None}
    if (folder / ADAPTER_CONFIG_FILE).is_file():
        lora = read_config(folder / ADAPTER_CONFIG_FILE)
        missing = [key for key in ("r", "lora_alpha", "target_modules") if not lora.get(key)]
        if missing:
            raise ValueError(f"{folder / ADAPTER_CONFIG_FILE}: is no LoRA (it has no {', '.join(missing)})")
        modules = lora["target_modules"]
        facts |= {
            "rank": lora["r"],
            "alpha": lora["lora_alpha"],
            "modules": [modules] if isinstance(modules, str) else sorted(modules),
        }
        facts["base"] = facts["base"] or lora.get("base_model_name_or_path") or None
    return facts
