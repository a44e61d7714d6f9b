"""Does a generator copy? How close its clips come to the recordings it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NoveltyReport:
    """Distances in standardized feature space (root mean square, so about 1 to 1.4 between unrelated clips).

    `generated_to_nearest`: median distance of a generated clip to the nearest recording; `real_to_nearest`:
    the same from one recording to the nearest other one; `copy_distance`: median distance of a copy (the
    recording sent through the autoencoder) to its original; `near_copies`: share of generated clips that are
    nearer to a recording than 95% of the copies are to theirs; `near_copies_among_real`: the same share for
    the recordings and the others among them, without which the former says little.
    """

    generated_to_nearest: float
    real_to_nearest: float
    copy_distance: float
    near_copies: float
    near_copies_among_real: float


def measure_novelty(real: np.ndarray, copies: np.ndarray, generated: np.ndarray) -> NoveltyReport:
    """Compare features `(clips, features)`: of recordings, the same through the VAE, and generated clips.

    Raises `ValueError` when `real` and `copies` differ in shape, there are fewer than two recordings, or the
    features of `generated` are others.
    """
    if real.shape != copies.shape or real.ndim != 2 or len(real) < 2:
        raise ValueError(
            f"`real` and `copies` must be (clips >= 2, features) of one shape, got {real.shape} and "
            f"{copies.shape}."
        )
    if generated.ndim != 2 or generated.shape[1] != real.shape[1] or len(generated) == 0:
        raise ValueError(f"`generated` must be (clips > 0, {real.shape[1]}), got {generated.shape}.")
    mean, std = real.mean(axis=0), real.std(axis=0) + 1e-9
    real, copies, generated = ((features - mean) / std for features in (real, copies, generated))

    to_copy = np.sqrt(((copies - real) ** 2).mean(axis=1))
    among_real = _distances(real, real)
    np.fill_diagonal(among_real, np.inf)
    to_other = among_real.min(axis=1)
    to_real = _distances(generated, real).min(axis=1)
    as_near_as_copies = np.percentile(to_copy, 95)
    return NoveltyReport(
        generated_to_nearest=float(np.median(to_real)),
        real_to_nearest=float(np.median(to_other)),
        copy_distance=float(np.median(to_copy)),
        near_copies=float((to_real < as_near_as_copies).mean()),
        near_copies_among_real=float((to_other < as_near_as_copies).mean()),
    )


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack([np.sqrt(((row - second) ** 2).mean(axis=1)) for row in first])
