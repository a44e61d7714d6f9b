"""Kernel distances between sets of embeddings: unbiased, without a Gaussian assumption (KID, KAD).

Embeddings are `(samples, dimensions)`; arguments are `(prediction, reference)`. All in float64, in blocks of
rows, so that memory grows with the number of samples and not with its square.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .distribution import check_embeddings

KAD_SCALE = 100.0
BLOCK = 1024
MEDIAN_SAMPLES = 4096

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def kernel_audio_distance(
    prediction: np.ndarray,
    reference: np.ndarray,
    bandwidth: float | None = None,
    scale: float = KAD_SCALE,
) -> float:
    r"""Kernel audio distance: `scale` times the unbiased squared MMD with a Gaussian kernel.

    \(k(x, y) = \exp(-\lVert x - y\rVert^2 / 2\sigma^2)\) with `bandwidth` σ, by default the median distance
    between samples of the reference (`median_distance`), so that the score of two models on one reference has
    one meaning. The scale is that of the authors' kadtk and only makes numbers readable. kadtk 1.1.0 takes
    the bandwidth from the evaluated set, later versions from the reference as here: for the former's value
    pass `bandwidth=median_distance(prediction)`. May be slightly negative for equal distributions.
    Source: Chung et al., "KAD: No More FAD!" (2025).

    Raises `ValueError` for sets that are not `(samples >= 2, dimensions)`, not finite or of different
    dimensions, for a bandwidth <= 0, and for a reference whose median distance is 0.
    """
    prediction, reference = check_embeddings(prediction, reference)
    if bandwidth is None:
        bandwidth = median_distance(reference)
        if bandwidth == 0:
            raise ValueError("`reference` has a median distance of 0 between its samples; pass `bandwidth`.")
    if not bandwidth > 0:
        raise ValueError(f"`bandwidth` must be > 0, got {bandwidth!r}.")
    return scale * _unbiased_mmd(
        prediction, reference, lambda x, y: np.exp(-_squared_distances(x, y) / (2 * bandwidth**2))
    )


def polynomial_kernel_distance(
    prediction: np.ndarray, reference: np.ndarray, degree: int = 3, offset: float = 1.0
) -> float:
    r"""The unbiased squared MMD with the kernel \((x^\top y / d + c)^p\), in d dimensions.

    With degree p = 3 and offset c = 1 the kernel of the kernel inception distance (KID), here over all
    samples at once instead of an average over subsets. Source: Bińkowski et al., "Demystifying MMD GANs"
    (2018).

    Raises `ValueError` for sets as `kernel_audio_distance` does, and for a degree below 1.
    """
    prediction, reference = check_embeddings(prediction, reference)
    if degree < 1:
        raise ValueError(f"`degree` must be >= 1, got {degree!r}.")
    dimensions = prediction.shape[1]
    return _unbiased_mmd(prediction, reference, lambda x, y: (x @ y.T / dimensions + offset) ** degree)


def median_distance(embeddings: np.ndarray) -> float:
    """Median Euclidean distance of all pairs of different samples of `(samples, dimensions)`.

    Of more than 4096 samples, 4096 evenly spaced ones are taken.
    """
    if len(embeddings) > MEDIAN_SAMPLES:
        embeddings = embeddings[np.linspace(0, len(embeddings) - 1, MEDIAN_SAMPLES).round().astype(int)]
    rows = range(len(embeddings) - 1)
    pairs = [_squared_distances(embeddings[i : i + 1], embeddings[i + 1 :])[0] for i in rows]
    return float(np.sqrt(np.median(np.concatenate(pairs))))


def _unbiased_mmd(prediction: np.ndarray, reference: np.ndarray, kernel: Kernel) -> float:
    """mean over i != j of k(p_i, p_j), the same of the reference, minus twice the mean of k(p_i, r_j)."""
    cross = _kernel_sum(prediction, reference, kernel) / (len(prediction) * len(reference))
    return float(_mean_of_pairs(prediction, kernel) + _mean_of_pairs(reference, kernel) - 2 * cross)


def _mean_of_pairs(samples: np.ndarray, kernel: Kernel) -> float:
    itself = sum(kernel(row[None], row[None])[0, 0] for row in samples)
    return (_kernel_sum(samples, samples, kernel) - itself) / (len(samples) * (len(samples) - 1))


def _kernel_sum(first: np.ndarray, second: np.ndarray, kernel: Kernel) -> float:
    return sum(kernel(first[start : start + BLOCK], second).sum() for start in range(0, len(first), BLOCK))


def _squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1)
    return np.maximum(squares - 2 * first @ second.T, 0)
