"""Audio autoencoders by folder or Hub name, whichever of the known classes they are."""

from pathlib import Path

import diffusers
from diffusers.models.modeling_utils import ModelMixin

from engine.checkpoints import EXPORT_NAME
from star_hf.autoencoder import AutoencoderStar
from star_hf.lafa import AutoencoderLafa

VAE_FOLDER = "vae"
OWN_CLASSES = {own.__name__: own for own in (AutoencoderStar, AutoencoderLafa)}


def resolve_export(source: str) -> str:
    """The export in a training run's folder, the autoencoder in a pipeline's, else `source` as it is."""
    exported = Path(source) / EXPORT_NAME
    folder = exported if exported.is_dir() else Path(source)
    if not (folder / "config.json").is_file() and (folder / VAE_FOLDER / "config.json").is_file():
        folder = folder / VAE_FOLDER
    return str(folder) if folder.is_dir() else source


def load_vae(source: str) -> ModelMixin:
    """Load a run's export, a `from_pretrained` folder, a pipeline's folder or a Hub name, in float32.

    A Hub name may end in the folder of the autoencoder inside a pipeline: `user/pipeline/vae`. The class is
    AutoencoderStar, AutoencoderLafa or one of diffusers' own.

    Raises `ValueError` for anything else, and for what cannot be loaded.
    """
    resolved, subfolder = resolve_export(source), None
    if Path(resolved).is_dir():
        if not (Path(resolved) / "config.json").is_file():
            raise ValueError(f"vae {source!r} holds no model: it has no config.json")
    elif source.count("/") == 2:
        resolved, _, subfolder = source.rpartition("/")
    try:
        name = AutoencoderStar.load_config(resolved, subfolder=subfolder).get("_class_name")
        vae_class = OWN_CLASSES.get(name) or getattr(diffusers, str(name), None)
        if not (
            isinstance(vae_class, type) and issubclass(vae_class, ModelMixin) and hasattr(vae_class, "decode")
        ):
            raise ValueError(
                f"vae {source!r} is a {name}, neither AutoencoderStar nor an autoencoder of diffusers or "
                "AutoencoderLafa"
            )
        vae = vae_class.from_pretrained(resolved, subfolder=subfolder, use_safetensors=True)
    except OSError as error:
        raise ValueError(f"vae {source!r} cannot be loaded: {error}") from error
    return without_path(vae).eval()


def without_path(model: ModelMixin) -> ModelMixin:
    """Forget where a model was loaded from, which diffusers would write into what is exported later."""
    model.register_to_config(_name_or_path="")
    return model
