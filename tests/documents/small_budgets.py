"""Options that come after a page's own, so that what takes days there takes a second here.

They shrink models, clips and steps, and leave alone what a page is about: recipe, data, losses, regularizer,
mode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

RUN = {
    "max_steps": 2,
    "max_minutes": "null",
    "log_every": 1,
    "validate_every": 2,
    "report_every": 2,
    "save_every": 2,
    "threads": 1,
    "report_to": "[]",
}
AUDIO = {
    "batch_size": 2,
    "num_workers": 0,
    "validation_clips": 1,
    "validation_seconds": 0.5,
    "crops.num_samples": 8192,
}
LATENTS = {"batch_size": 2, "num_workers": 0, "validation_clips": 2, "statistics_clips": 2}
QWEN3 = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
DIT = {
    "num_layers": 1,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "num_key_value_attention_heads": 2,
    "cross_attention_dim": 8,
    "time_proj_dim": 8,
}
LAFA = {
    "encoder_hidden_size": 16,
    "encoder_layers": 1,
    "decoder_hidden_size": 16,
    "decoder_layers": 1,
}
AUTOENCODER = {
    "encoder_hidden_size": 4,
    "decoder_channels": 4,
    "decoder_input_channels": 8,
    "context_hidden_size": 16,
    "num_context_layers": 1,
}
#: Crops that a linear shortcut is fitted to; no option.
SHORTCUT_CROPS = 16
REPORT = {"num_prompts": 1, "num_inference_steps": 2}

#: Of `star-hf COMMAND`.
COMMANDS: dict[str, dict[str, object]] = {
    "generate": {"--steps": 2, "--seconds": 1},
    "audit": {"--max-clips": 6, "--max-seconds": 1, "--decoded-clips": 1, "--decoded-seconds": 0.5},
    "probe": {
        "--budgets": "1,2",
        "--generated-clips": 4,
        "--kept-clips": 1,
        "--batch-size": 2,
        "--hidden-size": 16,
        "--layers": 1,
        "--heads": 1,
        "--max-seconds": 1,
    },
}


def _under(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in values.items()}


def _autoencoder(arguments: Any) -> dict[str, Any]:
    options = RUN | _under("data", AUDIO) | {"stft.fft_sizes": "[512, 128]", "report_clips": 1}
    if arguments.init_from is None:  # else the model is that of the weights
        options |= _under("model", AUTOENCODER)
        if "filterbank_bands" in arguments.model:
            options |= {"model.filterbank_bands": 64}
    if arguments.is_adversarial():
        options |= {"adversarial.discriminator.filters": 4}
    if arguments.losses.get("flow_probe"):
        options |= _under("flow_probe", {"hidden_size": 16, "num_layers": 1, "num_heads": 2})
    return options


def _latents(arguments: Any) -> dict[str, Any]:
    options = _under("data", LATENTS)
    if arguments.data.audio.source or arguments.data.audio.sources:
        options |= _under("data.audio", {**AUDIO, "max_seconds": 1})
    return options


def _generator(arguments: Any) -> dict[str, Any]:
    options = RUN | _latents(arguments) | _under("report", REPORT | {"seconds": 0.5})
    if arguments.backbone is None and arguments.init_from is None:
        options |= _under("text_config", QWEN3) | {"vocab_size": 300}
    return options


def _dit(arguments: Any) -> dict[str, Any]:
    options = RUN | _latents(arguments) | _under("report", REPORT) | _under("transformer", DIT)
    return options | {"conditioning_dim": 8, "max_text_tokens": 8}


def _lafa(arguments: Any) -> dict[str, Any]:
    return RUN | _under("data", AUDIO) | _under("model", LAFA) | {"statistics_crops": 2, "report_clips": 1}


def _encoding(arguments: Any) -> dict[str, Any]:
    return {"num_shifts": min(arguments.num_shifts, 1), "threads": 1, "num_workers": 0}


def _generator_evaluation(arguments: Any) -> dict[str, Any]:
    return {"clips_per_class": 1, "steps": 2, "seconds": 1, "batch_size": 3}


def _nothing(arguments: Any) -> dict[str, Any]:
    return {}


#: Of training scripts, by what they parse their command line into.
SCRIPTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "AutoencoderArguments": _autoencoder,
    "GeneratorArguments": _generator,
    "DiTArguments": _dit,
    "LafaArguments": _lafa,
    "EncodeArguments": _encoding,
    "AutoencoderEvaluationArguments": _nothing,
    "GeneratorEvaluationArguments": _generator_evaluation,
}


def of_script(arguments: Any) -> list[str]:
    """Options for a training script whose own command line says `arguments`."""
    name = type(arguments).__name__
    if name not in SCRIPTS:
        raise AssertionError(f"small_budgets.SCRIPTS must say what a small run with {name} is")
    options = SCRIPTS[name](arguments)
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def of_command(name: str) -> list[str]:
    """Options for `star-hf NAME`."""
    return [str(word) for option in COMMANDS.get(name, {}).items() for word in option]
