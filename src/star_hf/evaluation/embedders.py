"""Embeddings and tag logits of audio by any audio model of transformers: CLAP, AST, WavLM, Whisper, …"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

from ..audio import resample
from .waveform_checks import check_rate, check_waveform

DEFAULT_WINDOW_IN_S = 10.0
SHORTEST_IN_S = 0.05  # two frames of 25 ms, which every model needs
KALDI_FRAMES_PER_S = 100
CLASSIFIERS = ("ForAudioClassification", "ForSequenceClassification")

Features = dict[str, torch.Tensor]


class AudioEmbedder:
    """Runs a model over windows of mono clips at its own rate, in batches of bounded memory.

    Windows start every `hop_s`; the last one is moved back to end with the clip, so that none is mostly
    padding. A clip that is shorter than a window is one window, which the model's feature extractor pads in
    its own way. Features are extracted window by window: a clip's embeddings do not depend on its company.

    Args:
        model: a transformers model for audio; its head, where it is a classifier, gives `logits`.
        feature_extractor: the model's own.
        tokenizer: for models that embed text too.
        window_s: seconds; by default the length that the model was made for, or 10 s where it has none.
        hop_s: seconds from one window to the next; by default the window.
        batch_size: windows that the model sees at once.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        feature_extractor: SequenceFeatureExtractor,
        tokenizer: PreTrainedTokenizerBase | None = None,
        window_s: float | None = None,
        hop_s: float | None = None,
        batch_size: int = 8,
    ):
        own = own_window_in_s(feature_extractor)
        window_s = window_s if window_s is not None else own or DEFAULT_WINDOW_IN_S
        hop_s = hop_s if hop_s is not None else window_s
        if not SHORTEST_IN_S <= window_s:
            raise ValueError(f"`window_s` must be at least {SHORTEST_IN_S} s, got {window_s!r}.")
        if own is not None and window_s > own and getattr(feature_extractor, "truncation", "") != "fusion":
            raise ValueError(f"`window_s` must be at most {own:g} s, where the model cuts, got {window_s!r}.")
        if not 0 < hop_s <= window_s:
            raise ValueError(f"`hop_s` must be above 0 and at most `window_s` {window_s:g}, got {hop_s!r}.")
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be >= 1, got {batch_size!r}.")
        self.model = model.eval()
        self.feature_extractor = feature_extractor
        self.tokenizer = tokenizer
        self.window_s, self.hop_s, self.batch_size = float(window_s), float(hop_s), batch_size

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        window_s: float | None = None,
        hop_s: float | None = None,
        batch_size: int = 8,
        device: str | torch.device = "cpu",
        revision: str | None = None,
    ) -> AudioEmbedder:
        """Load a model by Hub id or folder, with its head if it is a classifier; safetensors only.

        Raises `OSError` for a name that is not there or holds no safetensors, and `ValueError` as the
        constructor does.
        """
        config = AutoConfig.from_pretrained(name_or_path, revision=revision)
        classifier = any(name.endswith(CLASSIFIERS) for name in config.architectures or [])
        model = (AutoModelForAudioClassification if classifier else AutoModel).from_pretrained(
            name_or_path, revision=revision, use_safetensors=True, dtype=torch.float32
        )
        tokenizer = None
        if hasattr(model, "get_text_features"):
            tokenizer = AutoTokenizer.from_pretrained(name_or_path, revision=revision)
        feature_extractor = AutoFeatureExtractor.from_pretrained(name_or_path, revision=revision)
        return cls(model.to(device), feature_extractor, tokenizer, window_s, hop_s, batch_size)

    @property
    def sampling_rate(self) -> int:
        """The model's own rate in Hz."""
        return self.feature_extractor.sampling_rate

    @property
    def classifies(self) -> bool:
        """Whether the model has a head that gives logits."""
        return type(self.model).__name__.endswith(CLASSIFIERS)

    def embed(self, waveform: torch.Tensor, sampling_rate: int) -> np.ndarray:
        """Embeddings `(windows, dimensions)` of a clip `(channels, samples)` at `sampling_rate` Hz.

        The projection for text-audio models, the pooled output where the model has one, else the mean of its
        last hidden states over time. Raises `ValueError` or `TypeError` for a clip that is not `(channels,
        samples)`, not finite, not floating point or shorter than 0.05 s.
        """
        return self.embed_clips([(waveform, sampling_rate)])[0]

    def embed_clips(self, clips: Iterable[tuple[torch.Tensor, int]]) -> list[np.ndarray]:
        """`embed` of each `(waveform, sampling_rate)`; batches go across clips."""
        return self._run(clips, self._embedding)

    def logits(self, waveform: torch.Tensor, sampling_rate: int) -> np.ndarray:
        """Logits `(windows, classes)` of a clip `(channels, samples)` by the model's classification head.

        Raises as `embed` does, and `ValueError` for a model without such a head.
        """
        return self.logits_of_clips([(waveform, sampling_rate)])[0]

    def logits_of_clips(self, clips: Iterable[tuple[torch.Tensor, int]]) -> list[np.ndarray]:
        """`logits` of each `(waveform, sampling_rate)`; batches go across clips."""
        if not self.classifies:
            raise ValueError(f"{type(self.model).__name__} has no classification head that gives logits.")
        return self._run(clips, lambda features: self.model(**features).logits)

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings `(texts, dimensions)` in the space of the audio's, by CLAP and its kind.

        Raises `ValueError` for a model without a text encoder, and for no texts.
        """
        if self.tokenizer is None:
            raise ValueError(f"{type(self.model).__name__} embeds no text.")
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"`texts` must be a list of at least one text, got {texts!r}.")
        rows = []
        for start in range(0, len(texts), self.batch_size):
            batch = list(texts[start : start + self.batch_size])
            tokens = self.tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                rows.append(_pooled(self.model.get_text_features(**tokens.to(self.model.device))).cpu())
        return torch.cat(rows).numpy()

    def _embedding(self, features: Features) -> torch.Tensor:
        if hasattr(self.model, "get_audio_features"):
            return _pooled(self.model.get_audio_features(**features))
        base = self.model.base_model
        return _pooled((base.get_encoder() if base.config.is_encoder_decoder else base)(**features))

    def _run(
        self,
        clips: Iterable[tuple[torch.Tensor, int]],
        function: Callable[[Features], torch.Tensor],
    ) -> list[np.ndarray]:
        rows: list[list[np.ndarray]] = []
        batch: list[Features] = []
        owners: list[int] = []

        def flush() -> None:
            features = {name: torch.cat([item[name] for item in batch]) for name in batch[0]}
            with torch.inference_mode():
                values = function({name: value.to(self.model.device) for name, value in features.items()})
            for owner, value in zip(owners, values.float().cpu().numpy(), strict=True):
                rows[owner].append(value)
            batch.clear()
            owners.clear()

        for index, (waveform, sampling_rate) in enumerate(clips):
            rows.append([])
            for features in self._features(waveform, sampling_rate):
                if batch and (len(batch) == self.batch_size or _shapes(batch[0]) != _shapes(features)):
                    flush()
                batch.append(features)
                owners.append(index)
        if batch:
            flush()
        return [np.stack(clip) for clip in rows]

    def _features(self, waveform: torch.Tensor, sampling_rate: int) -> Iterator[Features]:
        check_waveform("waveform", waveform, "(channels, samples > 0)")
        check_rate("sampling_rate", sampling_rate)
        if waveform.shape[1] < SHORTEST_IN_S * sampling_rate:
            raise ValueError(
                f"`waveform` has {waveform.shape[1]} samples; embeddings need at least {SHORTEST_IN_S} s."
            )
        mono = resample(waveform.float().mean(dim=0, keepdim=True), sampling_rate, self.sampling_rate)
        samples = mono[0].detach().cpu().numpy()
        window, hop = (round(seconds * self.sampling_rate) for seconds in (self.window_s, self.hop_s))
        for start in window_starts(len(samples), window, hop):
            with _seeded_numpy():
                yield dict(
                    self.feature_extractor(
                        samples[start : start + window],
                        sampling_rate=self.sampling_rate,
                        return_tensors="pt",
                    )
                )


def own_window_in_s(feature_extractor: SequenceFeatureExtractor) -> float | None:
    """Seconds that a feature extractor makes of every input; None where it takes any length."""
    for name in ("max_length_s", "chunk_length"):
        if getattr(feature_extractor, name, None):
            return float(getattr(feature_extractor, name))
    if hasattr(feature_extractor, "num_mel_bins") and hasattr(feature_extractor, "max_length"):
        return feature_extractor.max_length / KALDI_FRAMES_PER_S
    return None


def window_starts(samples: int, window: int, hop: int) -> list[int]:
    """Where windows begin: every `hop` samples, and one that ends with the clip."""
    if samples <= window:
        return [0]
    starts = list(range(0, samples - window + 1, hop))
    return starts if starts[-1] + window == samples else [*starts, samples - window]


def _pooled(output) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output
    pooled = getattr(output, "pooler_output", None)
    return pooled if pooled is not None else output.last_hidden_state.mean(dim=1)


def _shapes(features: Features) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in features.items()}


@contextmanager
def _seeded_numpy() -> Iterator[None]:
    """CLAP's fusion of long windows draws its crops from NumPy's global state: fix it, and put it back."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
