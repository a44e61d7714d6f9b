"""Audio autoencoders by folder or Hub name, whichever of the known classes they are."""

from pathlib import Path

import diffusers
from diffusers.models.modeling_utils import ModelMixin

from checkpoints import EXPORT_NAME
from star_hf.autoencoder import AutoencoderStar


def resolve_export(source: str) -> str:
    """The exported model of a training run's folder; any other folder or Hub name as it is."""
    exported = Path(source) / EXPORT_NAME
    return str(exported) if exported.is_dir() else source


def load_vae(source: str) -> ModelMixin:
    """Load a run's export, a `from_pretrained` folder or a Hub name, in float32, for inference.

    The class is AutoencoderStar or one of diffusers' own; `ValueError` for anything else.
    """
    source = resolve_export(source)
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ValueError(f"vae {source!r} holds no model: it has no config.json")
    name = AutoencoderStar.load_config(source).get("_class_name")
    vae_class = AutoencoderStar if name == AutoencoderStar.__name__ else getattr(diffusers, str(name), None)
    if not (
        isinstance(vae_class, type) and issubclass(vae_class, ModelMixin) and hasattr(vae_class, "decode")
    ):
        raise ValueError(
            f"vae {source!r} is a {name}, neither AutoencoderStar nor an autoencoder of diffusers"
        )
    return without_path(vae_class.from_pretrained(source, use_safetensors=True)).eval()


def without_path(model: ModelMixin) -> ModelMixin:
    """Forget where a model was loaded from, which diffusers would write into what is exported later."""
    model.register_to_config(_name_or_path="")
    return model
