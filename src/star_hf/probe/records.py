"""Finished parts of a probe on disk: each is written once, and counts only for what it was made from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..audit import Codec, write_json
from .clips import ProbeClips
from .settings import ProbeSettings


def codec_fingerprint(codec: Codec) -> str:
    """SHA-256 over an autoencoder's class, configuration and weights, decoder included."""
    config = getattr(codec.model, "config", None)
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    entries = {str(name): value for name, value in config.items()} if isinstance(config, Mapping) else {}
    # the path that it was loaded from, and versions of libraries
    entries = {name: value for name, value in entries.items() if not name.startswith("_")}
    entries.pop("transformers_version", None)
    layout = [codec.latent_channels, codec.hop_length, codec.sampling_rate]
    digest = hashlib.sha256(
        json.dumps(
            [type(codec).__name__, codec.class_name, layout, entries], sort_keys=True, default=str
        ).encode()
    )
    for name, tensor in sorted(codec.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass(frozen=True)
class Records:
    """The finished parts of one autoencoder below `folder`, made from `fingerprint`."""

    folder: Path
    fingerprint: dict[str, Any]

    @classmethod
    def of(cls, folder: Path, name: str, codec: Codec, clips: ProbeClips, settings: ProbeSettings) -> Records:
        fingerprint = {
            "autoencoder": codec_fingerprint(codec),
            "data": clips.fingerprint,
            "settings": settings.of_a_run(),
        }
        return cls(folder / "runs" / file_name(name), fingerprint)

    def load(self, part: str) -> dict[str, Any] | None:
        """A part's result, None where it is not finished.

        Raises `ValueError` when it was made from something else; the message names what.
        """
        path = self.folder / f"{part}.json"
        if not path.is_file():
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["fingerprint"] != self.fingerprint:
            raise ValueError(
                f"{path} was made with {self._difference(found['fingerprint'])}: "
                "give another folder, or delete this one."
            )
        return found["result"]

    def save(self, part: str, result: dict[str, Any]) -> dict[str, Any]:
        write_json({"fingerprint": self.fingerprint, "result": result}, self.folder / f"{part}.json")
        return result

    def _difference(self, other: dict[str, Any]) -> str:
        parts = [
            f"another {name}" for name in ("autoencoder", "data") if other[name] != self.fingerprint[name]
        ]
        old, new = other["settings"], self.fingerprint["settings"]
        parts += [
            f"`{name}` {old.get(name)!r} instead of {new.get(name)!r}"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]
        return " and ".join(parts)


def file_name(name: str) -> str:
    """A name as part of a path; two names never become one."""
    plain = re.sub(r"[^\w.-]+", "_", name).strip("._")
    if plain == name:
        return name
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}".lstrip("-")
