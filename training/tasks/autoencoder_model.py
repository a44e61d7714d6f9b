"""The autoencoder that a run starts from, which parts of it train, and what its configuration records."""

from dataclasses import asdict
from typing import Any

from star_hf.autoencoder import AutoencoderStar
from tasks.autoencoder_arguments import OBJECTIVES, AutoencoderArguments
from tasks.regularizer_arguments import KL_REGULARIZERS
from tasks.vae_loading import resolve_export, without_path

#: Settings of `regularizer` that each one uses.
_CURVE = ("beta_min", "beta_max", "growth", "gamma")
_TARGET = ("target_kbps", "target_weight")
_SETTINGS = {
    "isotropic": ("beta",),
    "star": _CURVE,
    "target_kl": _TARGET,
    "target_kl_star": (*_TARGET, *_CURVE),
    "sigma_vae": ("sigma",),
    "soft_normalization": ("channel_moment_weight",),
}


def load_autoencoder(arguments: AutoencoderArguments) -> AutoencoderStar:
    """A new model, or the one of `init_from`, with the bottleneck of the chosen regularizer."""
    bottleneck = arguments.regularizer.bottleneck
    if arguments.init_from is None:
        return AutoencoderStar(**arguments.model, **bottleneck)
    source = resolve_export(arguments.init_from)
    model = without_path(AutoencoderStar.from_pretrained(source, use_safetensors=True))
    if {name: model.config[name] for name in bottleneck} == bottleneck:
        return model
    return model.with_bottleneck(**bottleneck)


def freeze(vae: AutoencoderStar, part: str) -> None:
    """Keep `part` as it is: `"nothing"`, `"encoder"` with the bottleneck, or the `"decoder"`'s CNN."""
    if part == "encoder":
        vae.requires_grad_(False)
        vae.decoder.requires_grad_(True)
    elif part == "decoder":
        vae.decoder.requires_grad_(False)
        if vae.shortcut is not None:
            vae.shortcut.from_latents.requires_grad_(False)
        if vae.decoder.context is not None:
            vae.decoder.context.requires_grad_(True)


def regularizer_record(arguments: AutoencoderArguments, before: dict[str, Any] | None) -> dict[str, Any]:
    """What shaped the latents, for the model's configuration: plain values, the earlier phase in `after`."""
    if arguments.freeze == "encoder":
        return before or {}
    regularizer, weights = arguments.regularizer, arguments.losses
    record: dict[str, Any] = {
        "name": regularizer.name,
        **{name: getattr(regularizer, name) for name in _SETTINGS[regularizer.name]},
        "losses": {name: weight for name, weight in weights.items() if weight},
    }
    if regularizer.name in KL_REGULARIZERS and not weights.get("kl"):
        record = {"name": "none", "losses": record["losses"]}
    record |= {name: asdict(getattr(arguments, name)) for name in OBJECTIVES if weights.get(name)}
    if arguments.latent_noise.scale:
        record["latent_noise"] = arguments.latent_noise.scale
    if before:
        record["after"] = before
    return record
