"""Checkpoints that do not fit are refused with the names of what does not fit; nothing is unpickled."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping


def require_safetensors(use_safetensors: bool | None) -> None:
    """Raise a ValueError where pickled weights are asked for, to read or to write."""
    if use_safetensors is False:
        raise ValueError("weights are kept in safetensors only, never pickled; got `use_safetensors=False`")


def raise_for_keys(
    class_name: str,
    source: str | os.PathLike,
    loading_info: Mapping[str, Collection],
    ignore: Collection[str] = (),
) -> None:
    """Raise a ValueError that names every missing, unexpected or mismatched key of a `loading_info`."""
    problems = []
    for kind in ("missing", "unexpected"):
        keys = sorted(set(loading_info[f"{kind}_keys"]) - set(ignore))
        if keys:
            problems.append(f"{kind} keys: {', '.join(keys)}")
    mismatched = sorted(loading_info["mismatched_keys"])
    if mismatched:
        shapes = (f"{key} {tuple(saved)} instead of {tuple(expected)}" for key, saved, expected in mismatched)
        problems.append(f"keys of another shape: {', '.join(shapes)}")
    if problems:
        raise ValueError(f"{source} is no checkpoint of this {class_name}; {'; '.join(problems)}")
