"""What cannot be combined when an autoencoder is trained, and why; refused before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tasks.regularizer_arguments import KL_REGULARIZERS

if TYPE_CHECKING:
    from tasks.autoencoder_arguments import AutoencoderArguments

#: Losses that have nothing to train where the encoder is frozen.
ON_THE_LATENTS = ("kl", "moments", "mean_energy", "semantic", "regressors", "contrastive", "flow_probe")


def refuse_contradictions(arguments: AutoencoderArguments) -> None:
    """Raise a `ValueError` with the first contradiction's reason and what to change."""
    for reason in _contradictions(arguments):
        raise ValueError(reason)


def _contradictions(arguments: AutoencoderArguments) -> Iterator[str]:
    yield from _of_the_regularizer(arguments)
    yield from _of_the_objectives(arguments)
    yield from _of_the_stages(arguments)


def _of_the_regularizer(arguments: AutoencoderArguments) -> Iterator[str]:
    name, weights = arguments.regularizer.name, arguments.losses
    if name not in KL_REGULARIZERS and weights.get("kl"):
        why = {
            "sigma_vae": "its encoder gives the mean only, so that there is no variance to take a KL of; "
            "losses.mean_energy is what would be left of it",
            "soft_normalization": "its latents have no posterior to take a KL of; its own penalty is "
            "losses.moments",
        }[name]
        yield (f"regularizer.name {name!r} cannot have a KL: {why}. Set losses.kl to 0, got {weights['kl']}")
    if name != "soft_normalization" and weights.get("moments"):
        yield (
            "losses.moments is the penalty of soft normalization: set regularizer.name to "
            f"'soft_normalization' or losses.moments to 0, got {name!r} and {weights['moments']}"
        )
    if name in KL_REGULARIZERS and weights.get("mean_energy"):
        yield (
            "losses.mean_energy is a part of the KL that regularizer.name "
            f"{name!r} has already: set it to 0, got {weights['mean_energy']}"
        )
    if name == "soft_normalization" and weights.get("mean_energy"):
        yield (
            "losses.mean_energy pulls against soft normalization, which holds the latents at unit variance: "
            f"set it to 0, got {weights['mean_energy']}"
        )
    noise = arguments.posterior_noise
    if name == "soft_normalization" and (noise.start_step or noise.warmup_steps):
        yield (
            "posterior_noise has nothing to bring in: regularizer.name 'soft_normalization' samples no "
            "posterior; latent_noise.scale is the noise that goes with it"
        )
    for setting in ("scale", "inference_scale"):
        value = getattr(arguments.latent_noise, setting)
        if not 0 <= value < math.inf:
            yield f"latent_noise.{setting} must be finite and at least 0, got {value}"


def _of_the_objectives(arguments: AutoencoderArguments) -> Iterator[str]:
    weights = arguments.losses
    models = {
        "semantic": ("teacher", arguments.semantic.teacher),
        "contrastive": ("text_encoder", arguments.contrastive.text_encoder),
    }
    for loss, (setting, value) in models.items():
        if weights.get(loss) and not value:
            yield f"losses.{loss} needs {loss}.{setting}, a folder or a Hub name"
        if value and not weights.get(loss):
            yield f"{loss}.{setting} {value!r} would do nothing: give losses.{loss} a weight"
    if weights.get("contrastive") and arguments.data.batch_size < 2:
        yield (
            "losses.contrastive tells the clips of a batch apart: data.batch_size must be at least 2, got "
            f"{arguments.data.batch_size}"
        )
    fraction = arguments.semantic.gradient_fraction
    if fraction is not None and not 0 < fraction < math.inf:
        yield f"semantic.gradient_fraction must be greater than 0 or null, got {fraction}"
    if fraction is not None and weights.get("semantic"):
        if not any(weights.get(name) for name in ("stft", "waveform", "phase", "stereo_correlation")):
            yield (
                "semantic.gradient_fraction is a share of the reconstruction's gradient, and no "
                "reconstruction loss has a weight: set it to null"
            )


def _of_the_stages(arguments: AutoencoderArguments) -> Iterator[str]:
    weights = arguments.losses
    if arguments.freeze == "encoder":
        for name in ON_THE_LATENTS:
            if weights.get(name):
                yield (
                    f"freeze 'encoder' leaves nothing for the loss {name!r} to train: set losses.{name} to "
                    f"0, got {weights[name]}"
                )
    if not arguments.adversarial.reaches_encoder:
        if not arguments.is_adversarial():
            yield "adversarial.reaches_encoder false needs a weight of losses.adversarial or feature_matching"
        if arguments.freeze == "decoder":
            yield (
                "freeze 'decoder' and adversarial.reaches_encoder false leave nothing for the adversarial "
                "losses to train"
            )
