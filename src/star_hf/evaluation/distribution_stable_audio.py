"""The embedder and the tagger of stable-audio-metrics, for FD_openl3 and KL_PaSST as the papers report them.

They need openl3 (with TensorFlow) and hear21passt, which nothing here installs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch

from ..audio import NORMALIZED_PEAK, convert_channels, resample
from .optional_packages import import_for
from .waveform_checks import check_rate, check_waveform

OPENL3_RATE, OPENL3_HOP_IN_S = 44100, 0.5
PASST_RATE, PASST_WINDOW_IN_S, PASST_HOP_IN_S = 32000, 10, 5
PASST_SHORTEST_PADDED = 0.15  # of a window; shorter clips are not padded


class OpenL3Embedder:
    """OpenL3 embeddings of 1024 dimensions: 512 of the left and 512 of the right channel.

    Peak at -1 dBFS, 44.1 kHz, mel256, windows of 1 s every 0.5 s. Their `frechet_distance` is FD_openl3.

    Args:
        content_type: "env" for sounds (AudioCaps), "music" for music (Song Describer).

    Raises `ImportError` where openl3 is not installed.
    """

    def __init__(self, content_type: Literal["env", "music"]):
        if content_type not in ("env", "music"):
            raise ValueError(f"`content_type` must be 'env' or 'music', got {content_type!r}.")
        self._openl3 = import_for("FD_openl3", "openl3", "pip install openl3")
        self._model = self._openl3.models.load_audio_embedding_model(
            input_repr="mel256", content_type=content_type, embedding_size=512
        )

    def embed(self, waveform: torch.Tensor, sampling_rate: int) -> np.ndarray:
        """Embeddings `(windows, 1024)` of a clip `(channels, samples)`; mono counts as equal channels."""
        waveform = resample(normalize_peak(waveform, sampling_rate), sampling_rate, OPENL3_RATE)
        channels = list(convert_channels(waveform, 2).numpy())
        embeddings, _ = self._openl3.get_audio_embedding(
            channels, [OPENL3_RATE] * 2, model=self._model, hop_size=OPENL3_HOP_IN_S, verbose=False
        )
        return np.concatenate(embeddings, axis=1)

    def embed_clips(self, clips: Iterable[tuple[torch.Tensor, int]]) -> list[np.ndarray]:
        """`embed` of each `(waveform, sampling_rate)`."""
        return [self.embed(waveform, sampling_rate) for waveform, sampling_rate in clips]


class PaSSTTagger:
    """Logits over AudioSet's 527 classes by PaSST.

    Mono at 32 kHz, peak at -1 dBFS, windows of 10 s every 5 s, the last one padded with zeros, their logits
    averaged. The `tag_divergence` of two of them is KL_PaSST.

    Raises `ImportError` where hear21passt is not installed.
    """

    def __init__(self, device: str | torch.device = "cpu"):
        package = import_for("KL_PaSST", "hear21passt.base", "pip install hear21passt")
        self._device = torch.device(device)
        self._model = package.get_basic_model(mode="logits").eval().to(self._device)

    def logits(self, waveform: torch.Tensor, sampling_rate: int) -> np.ndarray:
        """Mean logits `(527,)` of a clip `(channels, samples)`."""
        mono = resample(waveform.mean(dim=0, keepdim=True), sampling_rate, PASST_RATE)
        windows = passt_windows(normalize_peak(mono, PASST_RATE)[0])
        with torch.inference_mode():
            logits = [self._model(window[None].to(self._device)).reshape(-1).cpu() for window in windows]
        return torch.stack(logits).mean(dim=0).numpy()


def passt_windows(mono: torch.Tensor) -> list[torch.Tensor]:
    """Windows of 10 s every 5 s of a clip `(samples,)` at 32 kHz, as long as more than 5 s are left."""
    window, hop = PASST_WINDOW_IN_S * PASST_RATE, PASST_HOP_IN_S * PASST_RATE
    windows = []
    for start in range(0, max(hop, len(mono) - hop), hop):
        part = mono[start : start + window]
        if PASST_SHORTEST_PADDED * window < len(part) < window:
            part = torch.nn.functional.pad(part, (0, window - len(part)))
        windows.append(part)
    return windows


def normalize_peak(waveform: torch.Tensor, sampling_rate: int) -> torch.Tensor:
    """`(channels, samples)` scaled to a peak of -1 dBFS; silence stays."""
    check_waveform("waveform", waveform, "(channels, samples > 0)")
    check_rate("sampling_rate", sampling_rate)
    peak = waveform.abs().max()
    return waveform.float() * (NORMALIZED_PEAK / peak) if peak > 0 else waveform.float()
