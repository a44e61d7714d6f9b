"""How near clips come to the real ones: distances of sets, labels, text, silence."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ..audio import convert_channels, resample
from ..audit.audit import Progress, silent_progress
from ..evaluation import (
    FewSamplesWarning,
    frechet_distance,
    frechet_infinity,
    kernel_audio_distance,
    median_distance,
    text_audio_similarity,
)
from ..evaluation.classifier import ClipJudge, clip_features
from ..evaluation.distribution import SMALLEST_SHARE
from ..evaluation.folder_evaluation import load_embedder
from ..evaluation.log_mel_embedder import LogMelEmbedder
from .clips import ClipPart, ProbeClips
from .settings import ProbeSettings

SILENT_PEAK = 1e-3  # -60 dB of full scale


@dataclass(frozen=True)
class ClipScores:
    """What a set of clips is worth; see `metrics.METRICS`. None is what cannot be told.

    FAD∞ is None where its smallest subset would have no more windows than the embedding has dimensions.
    """

    frechet: float
    frechet_infinity: float | None
    kernel: float
    accuracy: float | None
    text_similarity: float | None
    silent_share: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Judge:
    """Knows the real clips of a data set: their embeddings, and a linear classifier of the training clips.

    Clips are judged as mono mixtures at `settings.metric_rate` Hz, limited to full scale as a file would be,
    and what is not finite as silence. One judge serves all autoencoders of a comparison. Raises `ValueError`
    without a rate, and `OSError` or `ValueError` for an embedder that cannot be loaded.
    """

    def __init__(
        self, clips: ProbeClips, settings: ProbeSettings, progress: Progress = silent_progress
    ) -> None:
        if settings.metric_rate is None:
            raise ValueError("`settings.metric_rate` must be given: the rate that clips are judged at.")
        self.clips, self.settings, self.metric_rate = clips, settings, settings.metric_rate
        self.embedder: Any = LogMelEmbedder()
        if settings.embedder is not None:
            self.embedder = load_embedder(settings.embedder, settings.device or "cpu")
        if not hasattr(self.embedder, "embed_clips"):
            raise ValueError(f"`settings.embedder` {settings.embedder!r} gives no embeddings.")
        with progress("listening to the real clips", len(clips.training) + len(clips.held_out)) as step:
            parts = [self._listen(part, step) for part in (clips.training, clips.held_out)]
        self.real = np.concatenate([rows for embeddings, _ in parts for rows in embeddings])
        self.bandwidth = median_distance(self.real) or 1.0
        (_, training), (_, held_out) = parts
        labels = [clips.training.labels[index] for index in training]
        self.classifier: ClipJudge | None = None
        if len(set(labels)) > 1:
            self.classifier = ClipJudge().fit(np.stack(list(training.values())), labels)
        self._held_out_features = held_out

    @property
    def embedder_name(self) -> str:
        return self.settings.embedder or type(self.embedder).__name__

    def describe(self) -> dict[str, Any]:
        """Facts for the document: how many windows of how many dimensions, how well real clips are told."""
        right = [
            self.classifier.assign(features[None])[0] == self.clips.held_out.labels[index]
            for index, features in (self._held_out_features.items() if self.classifier else ())
        ]
        return {
            "windows": len(self.real),
            "dimensions": self.real.shape[1],
            "accuracy": sum(right) / len(right) if right else None,
        }

    def score(
        self, waveforms: Iterable[torch.Tensor], sampling_rate: int, held_out: Sequence[int]
    ) -> ClipScores:
        """Score waveforms `(channels, samples)` made from, or for the captions of, these held-out clips."""
        heard, silent = [], []
        for waveform in waveforms:
            silent.append(not torch.isfinite(waveform).all() or bool(waveform.abs().max() < SILENT_PEAK))
            heard.append(self._heard(waveform, sampling_rate))
        embeddings = self.embedder.embed_clips((waveform, self.metric_rate) for waveform in heard)
        windows = np.concatenate(embeddings)
        with warnings.catch_warnings():
            # the document tells the numbers of windows and dimensions
            warnings.simplefilter("ignore", FewSamplesWarning)
            distance = frechet_distance(windows, self.real)
        infinity = None
        if min(len(windows) // SMALLEST_SHARE, len(self.real)) > windows.shape[1]:
            infinity = frechet_infinity(windows, self.real).value
        return ClipScores(
            frechet=distance,
            frechet_infinity=infinity,
            kernel=kernel_audio_distance(windows, self.real, self.bandwidth),
            accuracy=self._accuracy(heard, held_out),
            text_similarity=self._text_similarity(embeddings, held_out),
            silent_share=sum(silent) / len(silent),
        )

    def _listen(
        self, part: ClipPart, step: Callable[[], object]
    ) -> tuple[list[np.ndarray], dict[int, np.ndarray]]:
        """Embeddings of each clip, and the classifier's features of those that have a label and sound."""
        features: dict[int, np.ndarray] = {}

        def clips() -> Iterator[tuple[torch.Tensor, int]]:
            for index in range(len(part)):
                mono = part.read(index, self.metric_rate, 1)
                if part.labels[index] is not None and mono.any():
                    features[index] = clip_features(mono, self.metric_rate)
                yield mono, self.metric_rate
                step()

        return self.embedder.embed_clips(clips()), features

    def _heard(self, waveform: torch.Tensor, sampling_rate: int) -> torch.Tensor:
        finite = torch.nan_to_num(waveform.float(), nan=0.0, posinf=0.0, neginf=0.0).clamp(-1, 1)
        return resample(convert_channels(finite, 1), sampling_rate, self.metric_rate)

    def _accuracy(self, heard: Sequence[torch.Tensor], held_out: Sequence[int]) -> float | None:
        meant = [self.clips.held_out.labels[index] for index in held_out]
        judged = [
            (waveform, label) for waveform, label in zip(heard, meant, strict=True) if label is not None
        ]
        if self.classifier is None or not self.clips.has_captions or not judged:
            return None
        assigned = self.classifier.assign_clips((waveform for waveform, _ in judged), self.metric_rate)
        return sum(a == label for a, (_, label) in zip(assigned, judged, strict=True)) / len(judged)

    def _text_similarity(self, embeddings: list[np.ndarray], held_out: Sequence[int]) -> float | None:
        if getattr(self.embedder, "tokenizer", None) is None or not self.clips.has_captions:
            return None
        texts = [self.clips.held_out.captions[index][0] for index in held_out]
        audio = np.stack([windows.mean(axis=0) for windows in embeddings])
        return float(text_audio_similarity(audio, self.embedder.embed_text(texts)))
