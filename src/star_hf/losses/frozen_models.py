"""Loading models that only look on: frozen, from safetensors, and whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

# Weights that checkpoints may lack because nothing here uses them: of pooled outputs, of masking in training.
_OPTIONAL = ("pooler", "masked_spec_embed")


def load_frozen(
    loader: Any,
    name_or_path: str,
    dtype: torch.dtype | None,
    revision: str | None,
    tower: Callable[[Any], Any],
) -> Any:
    """`tower(model)` of `loader.from_pretrained`, in evaluation mode and without gradients.

    Raises:
        ValueError: if the checkpoint lacks weights of the tower, which would be random then.
        OSError: if there is no such model, or it has no safetensors.
    """
    model, report = loader.from_pretrained(
        name_or_path,
        revision=revision,
        dtype=dtype or torch.float32,
        use_safetensors=True,
        output_loading_info=True,
    )
    used: nn.Module = tower(model)
    own = {id(weight) for weight in used.parameters()}
    missing = sorted(
        name
        for name, weight in model.named_parameters()
        if name in report["missing_keys"]
        and id(weight) in own
        and not any(part in name for part in _OPTIONAL)
    )
    if missing:
        raise ValueError(
            f"`name_or_path` {str(name_or_path)!r} has no weights for {', '.join(missing[:3])} and "
            f"{max(0, len(missing) - 3)} more of {type(used).__name__}."
        )
    return used.requires_grad_(False).eval()
