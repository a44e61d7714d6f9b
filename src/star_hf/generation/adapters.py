"""Adapters: LoRA on the backbone, and sharing what was trained without the backbone.

An adapter folder holds `config.json` (of the whole model), `star_gen_heads.safetensors` (the embedding of
audio tokens and the flow head) and, after training with LoRA, PEFT's own `adapter_config.json` and
`adapter_model.safetensors`, which belong to `StarGenModel.backbone`:

    model = load_adapter_folder("runs/generator_lora/export/adapter", base="Qwen/Qwen3-0.6B")
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from .configuration_star_gen import StarGenConfig
from .modeling_star_gen import StarGenModel

HEADS = ("audio_embedding", "flow_head")
HEADS_FILE = "star_gen_heads.safetensors"
ADAPTER_CONFIG_FILE, ADAPTER_FILE = "adapter_config.json", "adapter_model.safetensors"
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_ADAPTER, _PEFT_PREFIX = "default", "base_model.model."


def add_lora(
    model: StarGenModel,
    rank: int = 16,
    alpha: float = 32.0,
    dropout: float = 0.0,
    target_modules: Sequence[str] = LINEAR_LAYERS,
) -> None:
    """Put LoRA (Hu et al., arXiv 2106.09685) on the backbone, in place: W becomes W + alpha / rank · B A.

    The backbone's own weights are frozen; `audio_embedding` and `flow_head` keep training. A and B are in
    float32, whatever the precision of the backbone. Needs `peft`.

    Raises:
        ValueError: a number out of its range, or no layer has one of the names.
    """
    from peft import LoraConfig

    if rank < 1:
        raise ValueError(f"`rank` must be at least 1, got {rank}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"`dropout` must be at least 0 and less than 1, got {dropout}")
    _inject(
        model,
        LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=sorted(target_modules)),
    )


def merge_lora(model: StarGenModel) -> StarGenModel:
    """Add the adapter to the weights it adapts and remove it, in place; PEFT is not needed any more.

    The sum is rounded to the precision of the backbone.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    backbone = model.backbone
    for name, module in list(backbone.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            backbone.set_submodule(name, module.get_base_layer())
    if has_lora(model):
        del backbone.peft_config
        backbone._hf_peft_config_loaded = False
    return model


def has_lora(model: StarGenModel) -> bool:
    """Whether the backbone has an adapter."""
    return getattr(model.backbone, "_hf_peft_config_loaded", False)


def save_adapter_folder(model: StarGenModel, folder: str | os.PathLike, base: str = "") -> None:
    """Write the adapter, if there is one, and the layers around the backbone; the backbone itself stays out.

    `base` is the Hub id of the model under the adapter, for whoever loads the folder; empty if it has none.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    heads = {
        f"{name}.{key}": tensor.detach().cpu().contiguous()
        for name in HEADS
        for key, tensor in getattr(model, name).state_dict().items()
    }
    save_file(heads, folder / HEADS_FILE, metadata={"format": "pt", "base_model": base})
    if has_lora(model):
        from peft.utils import get_peft_model_state_dict

        config = model.backbone.peft_config[_ADAPTER]
        config.base_model_name_or_path = base
        config.save_pretrained(str(folder))
        adapter = get_peft_model_state_dict(model.backbone, adapter_name=_ADAPTER)
        named = {f"{_PEFT_PREFIX}{key}": value.detach().cpu().contiguous() for key, value in adapter.items()}
        save_file(named, folder / ADAPTER_FILE, metadata={"format": "pt"})


def load_adapter_folder(
    folder: str | os.PathLike,
    base: StarGenModel | str | os.PathLike | None = None,
    merge: bool = True,
    **kwargs: Any,
) -> StarGenModel:
    """The model that an adapter folder was saved from, in evaluation mode.

    Args:
        folder: what `save_adapter_folder` wrote, `adapter/` in the export of a training run.
        base: the model that was adapted: a folder or Hub id of a Qwen3 or of a [`StarGenModel`], or a
            StarGenModel, which is changed in place. By default the Hub id that the folder names.
        merge: whether to add the adapter to the weights; it needs PEFT only while loading then. Otherwise it
            stays apart and can be trained on.
        kwargs: arguments of `from_pretrained` of the base: `dtype`, `attn_implementation`, ...

    Raises:
        ValueError: no such folder, no base is known, or the weights do not fit it.
    """
    folder = Path(folder)
    if not (folder / HEADS_FILE).is_file():
        raise ValueError(f"{str(folder)!r} is no adapter folder: it has no {HEADS_FILE}")
    config = StarGenConfig.from_pretrained(folder)
    if base is None:
        with safe_open(folder / HEADS_FILE, framework="pt") as file:
            base = file.metadata().get("base_model")
        if not base:
            raise ValueError(f"{str(folder)!r} does not name the model it adapts: give it as `base`")
    model = base if isinstance(base, StarGenModel) else _load_base(base, config, kwargs)
    _load_heads(model, load_file(folder / HEADS_FILE), folder)
    for name in ("latents_mean", "latents_std", "frame_rate", "sampling_rate"):
        setattr(model.config, name, getattr(config, name))
    if (folder / ADAPTER_CONFIG_FILE).is_file():
        _load_lora(model, folder)
        if merge:
            merge_lora(model)
    return model.eval()


def _inject(model: StarGenModel, config: Any) -> None:
    model.backbone.add_adapter(config, adapter_name=_ADAPTER)
    for parameter in model.backbone.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _load_base(base: str | os.PathLike, config: StarGenConfig, kwargs: dict[str, Any]) -> StarGenModel:
    if (Path(base) / "model_index.json").is_file():
        return StarGenModel.from_pretrained(base, subfolder="model", **kwargs)
    hub = {
        name: kwargs[name]
        for name in ("cache_dir", "local_files_only", "revision", "token")
        if name in kwargs
    }
    if AutoConfig.from_pretrained(base, **hub).model_type == StarGenConfig.model_type:
        return StarGenModel.from_pretrained(base, **kwargs)
    fixed = ("text_config", "latent_channels")
    own = {name: getattr(config, name) for name in StarGenConfig.__annotations__ if name not in fixed}
    return StarGenModel.from_backbone(base, config.latent_channels, config_kwargs=own, **kwargs)


def _load_heads(model: StarGenModel, heads: dict[str, torch.Tensor], folder: Path) -> None:
    for name in HEADS:
        prefix = f"{name}."
        own = {key.removeprefix(prefix): value for key, value in heads.items() if key.startswith(prefix)}
        try:
            getattr(model, name).load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(f"{str(folder)!r} does not fit the base: {error}") from error


def _load_lora(model: StarGenModel, folder: Path) -> None:
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    _inject(model, LoraConfig.from_pretrained(str(folder)))
    saved = load_file(folder / ADAPTER_FILE)
    adapter = {key.removeprefix(_PEFT_PREFIX): value for key, value in saved.items()}
    wanted = get_peft_model_state_dict(model.backbone, adapter_name=_ADAPTER)
    wrong = sorted(
        set(adapter) ^ set(wanted)
        | {key for key in set(adapter) & set(wanted) if adapter[key].shape != wanted[key].shape}
    )
    if wrong:
        raise ValueError(f"{str(folder)!r} does not fit the base: {', '.join(wrong)}")
    set_peft_model_state_dict(model.backbone, adapter, adapter_name=_ADAPTER)
