"""Every metric of a pair by its name, and the pairs of two folders: what `star-hf evaluate` runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .loudness import loudness_difference, true_peak_difference
from .reconstruction import mel_distance, multi_resolution_mel_distance, si_sdr, stft_distance
from .reconstruction_bands import band_errors, named_bands
from .reconstruction_stereo import stereo_correlation_error
from .speech import pesq, stoi
from .waveform_checks import PreparedPair

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64"}


@dataclass(frozen=True)
class PairMetric:
    """A metric of `(prediction, reference)`: how it is computed, its unit, and which values are better."""

    function: Callable[..., torch.Tensor]
    better: str  # lower | higher | nearer to 0
    unit: str = ""
    takes_rate: bool = True


PAIR_METRICS = {
    "stft_distance": PairMetric(stft_distance, "lower", takes_rate=False),
    "mel_distance": PairMetric(mel_distance, "lower"),
    "multi_resolution_mel_distance": PairMetric(multi_resolution_mel_distance, "lower"),
    "si_sdr": PairMetric(si_sdr, "higher", "dB", takes_rate=False),
    "loudness_difference": PairMetric(loudness_difference, "nearer to 0", "LU"),
    "true_peak_difference": PairMetric(true_peak_difference, "nearer to 0", "dB"),
    "stereo_correlation_error": PairMetric(stereo_correlation_error, "lower", takes_rate=False),
    "pesq": PairMetric(pesq, "higher", "MOS-LQO"),
    "stoi": PairMetric(stoi, "higher"),
}
BAND_METRIC = "band_errors"
DEFAULT_METRICS = ("stft_distance", "mel_distance", "si_sdr", "loudness_difference", "true_peak_difference")


@dataclass
class PairScores:
    """`values` of one clip by metric (bands as `band_error_0-250_hz`), and why others have none."""

    values: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FolderPairs:
    """Files of two folders with one name, whatever their format, and the names that only one of them has."""

    pairs: dict[str, tuple[Path, Path]]
    only_predictions: tuple[str, ...]
    only_references: tuple[str, ...]


def check_metrics(names: Sequence[str]) -> None:
    """Raise `ValueError` for names that are no metric of a pair, and for none."""
    known = [*PAIR_METRICS, BAND_METRIC]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"`metrics` must be some of {', '.join(known)}, got {', '.join(unknown) or 'none'}.")


def measure_pair(pair: PreparedPair, metrics: Sequence[str] = DEFAULT_METRICS) -> PairScores:
    """Measure one clip; what a metric refuses (silence, mono, too short, ...) is told in place of its value.

    Raises `ValueError` for unknown metrics, and `ImportError` for one whose package is missing.
    """
    check_metrics(metrics)
    scores = PairScores()
    for name in metrics:
        try:
            scores.values.update(_measure(name, pair))
        except ValueError as error:
            scores.refused[name] = str(error)
    return scores


def pair_folders(predictions: str | os.PathLike[str], references: str | os.PathLike[str]) -> FolderPairs:
    """Pair the audio files of two folders and their subfolders by name without suffix.

    Raises `NotADirectoryError` for what is no folder, `FileNotFoundError` for one without audio files, and
    `ValueError` where two files of a folder have one name.
    """
    first, second = audio_files(predictions), audio_files(references)
    return FolderPairs(
        {name: (first[name], second[name]) for name in sorted(first.keys() & second.keys())},
        tuple(sorted(first.keys() - second.keys())),
        tuple(sorted(second.keys() - first.keys())),
    )


def audio_files(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Audio files below a folder by their path in it without suffix; hidden ones are left out."""
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise NotADirectoryError(f"{folder}: is no folder.")
    files: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if path.suffix.lower() not in AUDIO_SUFFIXES or any(part.startswith(".") for part in inside.parts):
            continue
        name = inside.with_suffix("").as_posix()
        if name in files:
            raise ValueError(f"{folder}: {files[name].name} and {path.name} have one name, {name!r}.")
        files[name] = path
    if not files:
        raise FileNotFoundError(f"{folder}: holds no audio file.")
    return files


def _measure(name: str, pair: PreparedPair) -> dict[str, float]:
    if name == BAND_METRIC:
        return dict(named_bands(band_errors(pair.prediction, pair.reference, pair.sampling_rate)))
    metric = PAIR_METRICS[name]
    rate = (pair.sampling_rate,) if metric.takes_rate else ()
    return {name: metric.function(pair.prediction, pair.reference, *rate).item()}
