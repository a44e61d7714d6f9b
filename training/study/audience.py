"""How far the reconstructions of a set of clips are from the originals: Fréchet audio distance."""

from typing import Any

import numpy as np
import torch

from measurement import naming
from star_hf.evaluation import frechet_distance
from star_hf.evaluation.embedders import AudioEmbedder
from star_hf.evaluation.log_mel_embedder import LogMelEmbedder
from study.runs import without_folders


class Audience:
    """Embeds clips; the originals only once, however many autoencoders reconstruct them.

    Args:
        embedder: folder or Hub id of an audio model of transformers; None takes `LogMelEmbedder`, whose
            distances can be compared with no others.
    """

    def __init__(self, embedder: str | None = None) -> None:
        self.embedder = LogMelEmbedder() if embedder is None else AudioEmbedder.from_pretrained(embedder)
        self.name = LogMelEmbedder.__name__ if embedder is None else without_folders(embedder)
        self._originals: dict[tuple[int, int], np.ndarray] = {}

    def settings(self) -> dict[str, Any]:
        """Embedder, and the seconds of a window and from one window to the next."""
        return {
            "embedder": self.name,
            "embedder_window_s": self.embedder.window_s,
            "embedder_hop_s": self.embedder.hop_s,
        }

    def listener(self, sampling_rate: int) -> "Listener":
        return Listener(self, sampling_rate)

    def original(self, number: int, waveform: torch.Tensor, sampling_rate: int) -> np.ndarray:
        """Embeddings of clip `number` of the held-out clips, which always come in one order."""
        key = number, sampling_rate
        if key not in self._originals:
            self._originals[key] = self.embedder.embed(waveform, sampling_rate)
        return self._originals[key]


class Listener:
    """Hears one autoencoder's reconstructions beside the originals, at `sampling_rate` Hz."""

    def __init__(self, audience: Audience, sampling_rate: int) -> None:
        self.audience, self.sampling_rate = audience, sampling_rate
        self.pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, name: str, reconstruction: torch.Tensor, original: torch.Tensor) -> None:
        with naming(name):
            self.pairs.append(
                (
                    self.audience.embedder.embed(reconstruction, self.sampling_rate),
                    self.audience.original(len(self.pairs), original, self.sampling_rate),
                )
            )

    def distance(self) -> float:
        """Fréchet distance between the windows of all reconstructions and of all originals."""
        reconstructions, originals = zip(*self.pairs, strict=True)
        return frechet_distance(np.concatenate(reconstructions), np.concatenate(originals))
