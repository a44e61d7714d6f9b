"""Two folders of audio measured against each other: clip by clip, and as sets by an embedder."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..audio import AudioError, read_audio
from .distribution import SMALLEST_SHARE, FewSamplesWarning, frechet_distance, frechet_infinity
from .distribution_kernel import kernel_audio_distance
from .distribution_pairs import tag_divergence
from .distribution_stable_audio import OpenL3Embedder, PaSSTTagger
from .embedders import SHORTEST_IN_S, AudioEmbedder
from .reconstruction_suite import PAIR_METRICS, measure_pair
from .waveform_checks import prepare_pair

Advance = Callable[[], Any]

OPENL3 = {"openl3-env": "env", "openl3-music": "music"}
PASST = "passt"


@dataclass
class FolderEvaluation:
    """`scores[metric][clip]`, distances of the `sets` and their `set_sizes` in windows, and what is missing.

    `refused[metric][clip]` tells why a clip has no value, `errors` what could not be measured at all,
    `warnings` what makes values doubtful.
    """

    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    sets: dict[str, float] = field(default_factory=dict)
    set_sizes: dict[str, int] = field(default_factory=dict)
    refused: dict[str, dict[str, str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, dict[str, Any]]:
        """Mean, standard deviation and number of clips of each metric, its unit and what is better."""
        rows = {}
        for name, values in self.scores.items():
            unit, better = _unit_and_better(name)
            rows[name] = {
                "mean": statistics.fmean(values.values()),
                "std": statistics.pstdev(values.values()),
                "clips": len(values),
                "unit": unit,
                "better": better,
            }
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        clips: dict[str, dict[str, float]] = {}
        for name, values in self.scores.items():
            for clip, value in values.items():
                clips.setdefault(clip, {})[name] = value
        return {
            "metrics": self.summary(),
            "sets": {name: {"value": value, "windows": self.set_sizes} for name, value in self.sets.items()},
            "clips": clips,
            "refused": self.refused,
            "warnings": self.warnings,
            "errors": self.errors,
        }

    def _note_error(self, message: str) -> None:
        # A file that is compared and embedded is read twice.
        if message not in self.errors:
            self.errors.append(message)


def compare_clips(
    evaluation: FolderEvaluation,
    pairs: Mapping[str, tuple[Path, Path]],
    metrics: Sequence[str],
    policy: Mapping[str, Any],
    advance: Advance = lambda: None,
) -> None:
    """Add the metrics of every pair of files; `policy` holds the conversions that `prepare_pair` may do.

    A file that cannot be read and a pair that `prepare_pair` refuses are errors of the evaluation, and so is
    a metric that refuses every clip. Raises `ImportError` for a metric whose package is missing.
    """
    measured = 0
    for clip, files in pairs.items():
        try:
            (prediction, rate), (reference, reference_rate) = map(read_audio, files)
            pair = prepare_pair(prediction, reference, rate, reference_rate, **policy)
        except ValueError as error:
            message = str(error) if isinstance(error, AudioError) else f"{clip}: {error}"
            evaluation._note_error(message)
        else:
            measured += 1
            scores = measure_pair(pair, metrics)
            for name, value in scores.values.items():
                evaluation.scores.setdefault(name, {})[clip] = value
            for name, reason in scores.refused.items():
                evaluation.refused.setdefault(name, {})[clip] = reason
        advance()
    for name, reasons in evaluation.refused.items():
        clip, reason = next(iter(reasons.items()))
        message = f"{name}: no value for {len(reasons)} clip(s), {clip} for one: {reason}"
        (evaluation.errors if len(reasons) == measured else evaluation.warnings).append(message)


def compare_sets(
    evaluation: FolderEvaluation,
    predictions: Mapping[str, Path],
    references: Mapping[str, Path],
    embedder: AudioEmbedder | OpenL3Embedder | PaSSTTagger,
    advance: Advance = lambda: None,
) -> None:
    """Add what an embedder or a tagger tells about two sets of files, by name.

    Distances of the embeddings of all windows (FD_openl3 for OpenL3), and for taggers and classifiers the
    divergence of the mean logits of clips that are in both sets (KL_PaSST for PaSST). Raises `ValueError`
    when too few clips could be read.
    """
    sides = {"predictions": predictions, "references": references}
    if not isinstance(embedder, PaSSTTagger):
        embeddings = {}
        for side, files in sides.items():
            clips = (clip for _, clip in _readable(evaluation, files, advance))
            embeddings[side] = np.concatenate([*embedder.embed_clips(clips)] or [np.empty((0, 1))])
        evaluation.set_sizes = {side: len(rows) for side, rows in embeddings.items()}
        _add_distances(evaluation, embedder, embeddings["predictions"], embeddings["references"])
    if isinstance(embedder, PaSSTTagger) or getattr(embedder, "classifies", False):
        paired = predictions.keys() & references.keys()
        logits = {
            side: {
                name: np.atleast_2d(embedder.logits(*clip)).mean(axis=0)
                for name, clip in _readable(evaluation, files, advance)
                if name in paired
            }
            for side, files in sides.items()
        }
        tagged = sorted(logits["predictions"].keys() & logits["references"].keys())
        if tagged:
            rows = [np.stack([logits[side][name] for name in tagged]) for side in sides]
            name = "KL_PaSST" if isinstance(embedder, PaSSTTagger) else "tag_divergence"
            divergences = tag_divergence(*rows, reduction="none").tolist()
            evaluation.scores[name] = dict(zip(tagged, divergences, strict=True))


def load_embedder(name: str, device: str | torch.device = "cpu"):
    """`openl3-env`, `openl3-music`, `passt`, or an audio model of transformers by folder or Hub id."""
    if name in OPENL3:
        return OpenL3Embedder(OPENL3[name])
    if name == PASST:
        return PaSSTTagger(device)
    return AudioEmbedder.from_pretrained(name, device=device)


def _readable(
    evaluation: FolderEvaluation, files: Mapping[str, Path], advance: Advance
) -> Iterator[tuple[str, tuple[torch.Tensor, int]]]:
    for name, file in files.items():
        try:
            waveform, rate = read_audio(file)
            if waveform.shape[1] < SHORTEST_IN_S * rate:
                raise AudioError(f"{file}: is shorter than {SHORTEST_IN_S} s.")
            yield name, (waveform, rate)
        except AudioError as error:
            evaluation._note_error(str(error))
        advance()


def _add_distances(
    evaluation: FolderEvaluation,
    embedder: AudioEmbedder | OpenL3Embedder,
    predictions: np.ndarray,
    references: np.ndarray,
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FewSamplesWarning)
        distance = frechet_distance(predictions, references)
    evaluation.warnings += [str(warning.message) for warning in caught]
    if isinstance(embedder, OpenL3Embedder):
        evaluation.sets["FD_openl3"] = distance
    else:
        evaluation.sets["frechet_distance"] = distance
        # Its law needs every drawn set to have more samples than dimensions.
        if min(len(predictions) // SMALLEST_SHARE, len(references)) > predictions.shape[1]:
            evaluation.sets["frechet_infinity"] = frechet_infinity(predictions, references).value
        evaluation.sets["kernel_audio_distance"] = kernel_audio_distance(predictions, references)


def _unit_and_better(name: str) -> tuple[str, str]:
    if name in PAIR_METRICS:
        return PAIR_METRICS[name].unit, PAIR_METRICS[name].better
    if name.startswith("band_"):
        return "dB", "nearer to 0" if name.startswith("band_bias") else "lower"
    return "nats", "lower"
