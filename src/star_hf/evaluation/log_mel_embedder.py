"""Embeddings of audio without any trained model: statistics of a log-mel spectrogram over short windows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank

from ..audio import resample
from .embedders import SHORTEST_IN_S, window_starts
from .waveform_checks import check_rate, check_waveform

FFT_SIZE, HOP_IN_S = 1024, 0.01
MIN_FREQUENCY = 50.0
#: Power that is added before the logarithm, relative to a full-scale tone: silence of -60 dB and digital
#: silence are the same.
FLOOR = 1e-6


class LogMelEmbedder:
    """Mean and standard deviation of each log-mel band over windows of about a second.

    For comparisons where no pretrained embedder is at hand: distances between such embeddings tell spectral
    balance, level and their fluctuation, and nothing of pitch, rhythm or meaning. They are NOT comparable
    with published Fréchet audio distances, nor with those of any other embedder. The interface is that of
    `AudioEmbedder`.

    A window's bands are log10 of the power of the mono mixture, 0 for a full-scale tone and -6 for silence;
    the embedding has 2 · `bands` dimensions. Windows start every `hop_s`, the last one ends with the clip,
    and a clip that is shorter than a window is one.

    Args:
        sampling_rate: at which clips are looked at, in Hz; the bands end at 7/16 of it.
        bands: few enough for the covariance of a few hundred windows.
        window_s, hop_s: seconds.
    """

    #: Such embeddings have no counterpart for text.
    tokenizer = None

    def __init__(
        self, sampling_rate: int = 32000, bands: int = 32, window_s: float = 1.0, hop_s: float = 0.5
    ) -> None:
        check_rate("sampling_rate", sampling_rate)
        highest = sampling_rate * 7 / 16
        if bands < 1 or highest <= MIN_FREQUENCY:
            raise ValueError(
                f"`bands` must be >= 1 and `sampling_rate` high enough, got {bands!r} and {sampling_rate!r}."
            )
        if not (SHORTEST_IN_S <= window_s and 0 < hop_s <= window_s):
            raise ValueError(
                f"`window_s` must be at least {SHORTEST_IN_S} and `hop_s` above 0 and at most the window, "
                f"got {window_s!r} and {hop_s!r}."
            )
        self.sampling_rate, self.bands = sampling_rate, bands
        self.window_s, self.hop_s = float(window_s), float(hop_s)
        filters = mel_filter_bank(
            FFT_SIZE // 2 + 1, bands, MIN_FREQUENCY, highest, sampling_rate, mel_scale="slaney"
        )
        self._filters = torch.from_numpy(filters).float().T  # (bands, bins)
        window = torch.hann_window(FFT_SIZE)
        self._analysis_window = 2 * window / window.sum()  # a full-scale sine has amplitude 1

    def embed(self, waveform: torch.Tensor, sampling_rate: int) -> np.ndarray:
        """Embeddings `(windows, 2 · bands)` of a clip `(channels, samples)` at `sampling_rate` Hz.

        Raises `ValueError` or `TypeError` for a clip that is not `(channels, samples)`, not finite, not
        floating point or shorter than 0.05 s.
        """
        check_waveform("waveform", waveform, "(channels, samples > 0)")
        check_rate("sampling_rate", sampling_rate)
        if waveform.shape[1] < SHORTEST_IN_S * sampling_rate:
            raise ValueError(
                f"`waveform` has {waveform.shape[1]} samples; embeddings need at least {SHORTEST_IN_S} s."
            )
        mixture = waveform.detach().cpu().float().mean(dim=0, keepdim=True)
        mono = resample(mixture, sampling_rate, self.sampling_rate)[0]
        window, hop = (round(seconds * self.sampling_rate) for seconds in (self.window_s, self.hop_s))
        starts = window_starts(len(mono), window, hop)
        windows = torch.stack([mono[start : start + window] for start in starts])
        levels = self._log_mel(windows)
        return torch.cat([levels.mean(dim=-1), levels.std(dim=-1, correction=0)], dim=1).numpy()

    def embed_clips(self, clips: Iterable[tuple[torch.Tensor, int]]) -> list[np.ndarray]:
        """`embed` of each `(waveform, sampling_rate)`."""
        return [self.embed(waveform, rate) for waveform, rate in clips]

    def _log_mel(self, windows: torch.Tensor) -> torch.Tensor:
        """`(windows, bands, frames)` of `(windows, samples)`."""
        missing = max(0, FFT_SIZE - windows.shape[1])
        spectrum = torch.stft(
            torch.nn.functional.pad(windows, (0, missing)),
            FFT_SIZE,
            round(HOP_IN_S * self.sampling_rate),
            window=self._analysis_window,
            center=False,
            return_complex=True,
        )
        return torch.log10(self._filters @ spectrum.abs().square() + FLOOR)
