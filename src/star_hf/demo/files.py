"""The audio files of the demo, in one folder of bounded size."""

from __future__ import annotations

import re
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

import torch

from ..audio import write_audio

MAX_NAME = 60  # characters


@dataclass(frozen=True)
class AudioFiles:
    """One clip in both formats."""

    wav: Path
    flac: Path


class ClipFolder:
    """Writes clips into folders of their own below `folder`.

    Everything below `folder`, uploads included, is kept under `max_bytes`: the oldest files are deleted.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._lock = threading.Lock()

    def write(self, name: str, waveform: torch.Tensor, sampling_rate: int) -> AudioFiles:
        """Write `(channels, samples)` as WAV and FLAC under a name that a person recognizes."""
        stem = re.sub(r"[^\w-]+", "-", name).strip("-")[:MAX_NAME] or "clip"
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir(parents=True)
        files = AudioFiles(
            *(write_audio(folder / f"{stem}.{format}", waveform, sampling_rate) for format in ("wav", "flac"))
        )
        self._delete_oldest(keep={files.wav, files.flac})
        return files

    def _delete_oldest(self, keep: set[Path]) -> None:
        with self._lock:
            found = []
            for path in self.folder.rglob("*"):
                try:
                    if path.is_file():
                        found.append((path.stat().st_mtime, path.stat().st_size, path))
                except FileNotFoundError:  # gone meanwhile
                    continue
            total = sum(size for _, size, _ in found)
            for _, size, path in sorted(found):
                if total <= self.max_bytes:
                    break
                if path not in keep:
                    path.unlink(missing_ok=True)
                    total -= size
