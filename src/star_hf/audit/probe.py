"""How much of a clip's label a linear classifier reads off its latents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

MAX_FOLDS = 5


class ClipFeatures:
    """Mean and standard deviation over time of each latent channel, clip by clip, in float64."""

    def __init__(self) -> None:
        self.sums: dict[int, list[torch.Tensor]] = {}
        self.frames: Counter[int] = Counter()

    def update(self, clip: int, latents: torch.Tensor) -> None:
        """Add latents `(1, channels, frames)` of a piece of `clip`."""
        values = latents[0].double()
        parts = [values.sum(dim=-1), values.square().sum(dim=-1)]
        before = self.sums.get(clip)
        self.sums[clip] = parts if before is None else [a + b for a, b in zip(before, parts, strict=True)]
        self.frames[clip] += values.shape[-1]

    def drop(self, clip: int) -> None:
        """Forget a clip of which a later piece could not be read."""
        self.sums.pop(clip, None)
        self.frames.pop(clip, None)

    def table(self) -> tuple[list[int], np.ndarray]:
        """The clips, and their features `(clips, 2 · channels)`."""
        clips = sorted(self.sums)
        rows = []
        for clip in clips:
            first, second = (total / self.frames[clip] for total in self.sums[clip])
            rows.append(torch.cat([first, (second - first.square()).clamp_min(0).sqrt()]).numpy())
        return clips, np.array(rows)


def linear_probe(
    features: np.ndarray, labels: Sequence[str], folds: Sequence[object] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Accuracy of logistic regression on standardized features, each fold judged by the others.

    Args:
        features: `(clips, features)`.
        labels: one for each clip.
        folds: one for each clip, such that clips of one recording or speaker share it; by default up to
            five folds with equal shares of each label, drawn with `seed`.

    Returns a dict for JSON, of which `accuracy` is None, with a `reason`, where nothing can be learned.
    """
    counts = Counter(labels)
    report: dict[str, Any] = {
        "accuracy": None,
        "chance": max(counts.values(), default=0) / max(1, len(labels)),
        "num_clips": len(labels),
        "num_labels": len(counts),
    }
    if len(counts) < 2:
        return {**report, "reason": "there are not two labels to tell apart"}
    if folds is None:
        number = min(MAX_FOLDS, min(counts.values()))
        if number < 2:
            return {**report, "reason": "a label has one clip, which cannot be both learned from and judged"}
        folds = _stratified(labels, number, seed)
    names = sorted({str(fold) for fold in folds})
    numbers = [names.index(str(fold)) for fold in folds]
    from ..evaluation.classifier import cross_validate

    try:
        judged = cross_validate(features, labels, numbers)
    except ValueError as error:
        return {**report, "reason": str(error)}
    return {**report, "accuracy": judged.accuracy, "num_folds": len(names), "per_label": judged.per_class}


def _stratified(labels: Sequence[str], number: int, seed: int) -> list[int]:
    from sklearn.model_selection import StratifiedKFold

    folds = np.zeros(len(labels), dtype=int)
    splitter = StratifiedKFold(number, shuffle=True, random_state=seed)
    for fold, (_, unseen) in enumerate(splitter.split(np.zeros((len(labels), 1)), labels)):
        folds[unseen] = fold
    return folds.tolist()
