"""The judge: which class of sound a clip belongs to, by a linear classifier on log-mel statistics.

It answers one question about a text-to-audio model: are the clips that it makes for "rain" recognized as rain
by a classifier that was fitted on real recordings? Real recordings that the classifier has not seen give the
ceiling, chance is one over the number of classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.fft import dct
from scipy.signal import get_window, stft
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers.audio_utils import mel_filter_bank

from ..audio import resample

SAMPLING_RATE = 44100
FFT_SIZE, HOP = 2048, 512
MEL_BANDS, MIN_FREQUENCY, MAX_FREQUENCY = 64, 40.0, 16000.0
CEPSTRAL_COEFFICIENTS = 20
# Everything further below the loudest point of the clip counts as silence. Recordings are often padded with
# digital zeros, which a decoder fills with faint noise: without this floor the padding would decide the
# class.
FLOOR_DB = 50.0
CHANGE_LAG = 2  # frames between the two spectra whose difference measures change: 23 ms
MODULATION_WINDOW = 216  # frames of the envelope's spectrum: 2.5 s
MODULATION_BANDS = 14  # logarithmic, 0.5 to 43 Hz
BAND_GROUPS = 4
SILENCE = "silence"

_MEL_FILTERS = mel_filter_bank(
    FFT_SIZE // 2 + 1, MEL_BANDS, MIN_FREQUENCY, MAX_FREQUENCY, SAMPLING_RATE, mel_scale="slaney"
)


def clip_features(waveform: torch.Tensor | np.ndarray, sampling_rate: int) -> np.ndarray:
    """Describe one clip `(channels, samples)` of any length and level by a vector of log-mel statistics.

    Mono mixture, 64 mel bands from 40 Hz to 16 kHz in dB below the clip's loudest point, cut off at -50 dB.
    Over the frames: mean, standard deviation and mean absolute change of each band and of 20 cepstral
    coefficients; percentiles, spread and change of the level; spectra of the envelopes (0.5 to 43 Hz) of the
    level and of four groups of bands, which tell a clock's ticks from a rotor or crackling fire. Scaling the
    clip changes nothing.

    Raises `ValueError` when the clip is not `(channels, samples)`, not finite, or silent.
    """
    samples = torch.as_tensor(waveform).detach().cpu().float()
    if samples.ndim != 2 or samples.numel() == 0:
        raise ValueError(f"`waveform` must be (channels, samples > 0), got {tuple(samples.shape)}.")
    if not torch.isfinite(samples).all():
        raise ValueError("`waveform` holds NaN or infinite samples.")
    mono = resample(samples.mean(dim=0, keepdim=True), sampling_rate, SAMPLING_RATE)[0].double().numpy()
    peak = np.abs(mono).max()
    if peak == 0:
        raise ValueError("`waveform` is silent: it has no spectrum to describe.")

    power = _mel_power(mono / peak)  # (bands, frames)
    bands = _decibels(power)
    level = _decibels(power.sum(axis=0))
    cepstrum = dct(bands, axis=0, norm="ortho")[:CEPSTRAL_COEFFICIENTS]
    envelopes = [level, *(group.mean(axis=0) for group in np.array_split(bands, BAND_GROUPS))]
    return np.concatenate(
        [
            _frame_statistics(bands),
            _frame_statistics(cepstrum),
            np.percentile(level, [5, 25, 50, 75, 95]),
            [level.std(), np.abs(np.diff(level, prepend=level[0])).mean()],
            [(level < -40).mean(), (level < -20).mean()],
            *(_modulation_spectrum(envelope) for envelope in envelopes),
        ]
    )


@dataclass(frozen=True)
class JudgeReport:
    """How many clips were given the class that they were meant to have.

    `accuracy` over all clips, `per_class` of each class, `confusion[meant][assigned]` counts, `num_clips`.
    """

    accuracy: float
    per_class: dict[str, float]
    confusion: dict[str, dict[str, int]]
    num_clips: int

    @classmethod
    def of(cls, meant: Sequence[str], assigned: Sequence[str]) -> JudgeReport:
        """Count two lists of equal length. Raises `ValueError` when they are empty or differ in length."""
        if len(meant) != len(assigned) or not meant:
            raise ValueError(
                f"`meant` has {len(meant)} classes for {len(assigned)} `assigned`; equal, > 0 needed."
            )
        rows, columns = sorted(set(meant)), sorted({*meant, *assigned})
        confusion = {row: dict.fromkeys(columns, 0) for row in rows}
        for row, column in zip(meant, assigned, strict=True):
            confusion[row][column] += 1
        per_class = {row: confusion[row][row] / sum(confusion[row].values()) for row in rows}
        hits = sum(confusion[row][row] for row in rows)
        return cls(hits / len(meant), per_class, confusion, len(meant))

    def to_dict(self) -> dict:
        """The report as plain numbers, for JSON."""
        return asdict(self)


class ClipJudge:
    """Logistic regression on standardized clip features.

    Args:
        inverse_regularization: scikit-learn's C; smaller is smoother.
    """

    def __init__(self, inverse_regularization: float = 0.1):
        self.classifier: Pipeline = make_pipeline(
            StandardScaler(), LogisticRegression(C=inverse_regularization, max_iter=5000)
        )

    def fit(self, features: np.ndarray, labels: Sequence[str]) -> ClipJudge:
        """Fit on `(clips, features)` and one label per clip; returns itself.

        Raises `ValueError` when the numbers differ or there are fewer than two classes.
        """
        if len(features) != len(labels):
            raise ValueError(f"`labels` has {len(labels)} entries for {len(features)} clips.")
        if len(set(labels)) < 2:
            raise ValueError(f"`labels` must hold at least two classes, got {sorted(set(labels))}.")
        self.classifier.fit(features, np.asarray(labels))
        return self

    def assign(self, features: np.ndarray) -> list[str]:
        """The class of each row of `(clips, features)`."""
        return [str(label) for label in self.classifier.predict(features)]

    def assign_clips(self, clips: Iterable[torch.Tensor], sampling_rate: int) -> list[str]:
        """The class of each waveform `(channels, samples)`; a silent or non-finite one is given "silence"."""
        return [self._assign_clip(clip, sampling_rate) for clip in clips]

    def _assign_clip(self, clip: torch.Tensor, sampling_rate: int) -> str:
        if not torch.isfinite(clip).all() or not clip.any():
            return SILENCE
        return self.assign(clip_features(clip, sampling_rate)[None])[0]


def cross_validate(
    features: np.ndarray,
    labels: Sequence[str],
    folds: Sequence[int],
    held_out_features: np.ndarray | None = None,
) -> JudgeReport:
    """Judge each fold by a classifier that was fitted on the other folds.

    `features` is `(clips, features)` of real clips. `held_out_features`, row by row another version of the
    same clips (sent through an autoencoder, for instance), is what gets judged; by default the real clips
    themselves, which gives the ceiling. Raises `ValueError` when lengths differ or there is only one fold.
    """
    labels, folds = np.asarray(labels), np.asarray(folds)
    judged = features if held_out_features is None else held_out_features
    if not len(features) == len(labels) == len(folds) == len(judged):
        raise ValueError(
            "`features`, `labels`, `folds` and `held_out_features` must have one row per clip, got "
            f"{len(features)}, {len(labels)}, {len(folds)} and {len(judged)}."
        )
    if len(set(folds.tolist())) < 2:
        raise ValueError(f"`folds` must name at least two folds, got {sorted(set(folds.tolist()))}.")
    assigned = np.empty(len(labels), dtype=object)
    for fold in sorted(set(folds.tolist())):
        unseen = folds == fold
        judge = ClipJudge().fit(features[~unseen], labels[~unseen].tolist())
        assigned[unseen] = judge.assign(judged[unseen])
    return JudgeReport.of(labels.tolist(), assigned.tolist())


def _mel_power(mono: np.ndarray) -> np.ndarray:
    padded = np.pad(mono, (0, max(0, FFT_SIZE - len(mono))))
    _, _, spectrum = stft(
        padded, window=get_window("hann", FFT_SIZE), nperseg=FFT_SIZE, noverlap=FFT_SIZE - HOP, padded=False
    )
    return _MEL_FILTERS.T @ np.abs(spectrum) ** 2


def _decibels(power: np.ndarray) -> np.ndarray:
    """Decibels below the largest value, cut off at the floor."""
    return np.maximum(10 * np.log10(power / power.max() + 1e-12), -FLOOR_DB)


def _frame_statistics(values: np.ndarray) -> np.ndarray:
    lag = min(CHANGE_LAG, values.shape[1] - 1)
    change = np.abs(values[:, lag:] - values[:, : values.shape[1] - lag]).mean(axis=1)
    return np.concatenate([values.mean(axis=1), values.std(axis=1), change])


def _modulation_spectrum(envelope: np.ndarray) -> np.ndarray:
    """Logarithm of each modulation band's share of the envelope's power, whatever its depth and length."""
    normalized = (envelope - envelope.mean()) / (envelope.std() + 1e-6)
    normalized = np.pad(normalized, (0, max(0, MODULATION_WINDOW - len(normalized))))
    starts = range(0, len(normalized) - MODULATION_WINDOW + 1, MODULATION_WINDOW // 2)
    windows = np.stack([normalized[start : start + MODULATION_WINDOW] for start in starts])
    power = (np.abs(np.fft.rfft(windows * np.hanning(MODULATION_WINDOW))) ** 2).mean(axis=0)
    frame_rate = SAMPLING_RATE / HOP
    frequency = np.fft.rfftfreq(MODULATION_WINDOW, 1 / frame_rate)
    edges = np.geomspace(0.5, frame_rate / 2, MODULATION_BANDS + 1)
    shares = [power[(frequency >= low) & (frequency < high)].sum() for low, high in pairwise(edges)]
    return np.log10(np.array(shares) / (power.sum() + 1e-9) + 1e-4)
