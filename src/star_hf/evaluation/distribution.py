"""How far a set of generated clips is from a set of real ones: Fréchet distance of their embeddings.

Embeddings are `(samples, dimensions)`, of `embedders.AudioEmbedder` for instance; arguments are
`(prediction, reference)`. The sets need not be of one size, and no sample belongs to another.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

SMALLEST_SHARE = 4  # the smallest set of an extrapolation has a quarter of the samples


class FewSamplesWarning(UserWarning):
    """A covariance comes from too few samples: the distance is far above that of the distributions."""


@dataclass(frozen=True)
class FrechetExtrapolation:
    """A Fréchet distance extrapolated to infinitely many samples.

    `value` is the intercept and `slope` the coefficient of 1/N of a straight line through `distances` at
    `sizes`; `r_squared` tells how well the line fits.
    """

    value: float
    slope: float
    r_squared: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def frechet_distance(prediction: np.ndarray, reference: np.ndarray) -> float:
    r"""Fréchet distance of two sets of embeddings `(samples, dimensions)`, in float64.

    \(\lVert\mu_p - \mu_r\rVert^2 + \operatorname{tr}(\Sigma_p + \Sigma_r - 2 (\Sigma_p \Sigma_r)^{1/2})\),
    the squared distance that papers report as FD or FAD, with covariances over N - 1. With \(\Sigma = A^\top
    A\) (A from a QR decomposition of the centred samples), the trace of the root is the sum of the singular
    values of \(A_p A_r^\top\): no root of a matrix that is singular or not symmetric is ever taken. Source:
    Dowson and Landau (1982); Kilgour et al., "Fréchet Audio Distance" (2019).

    Warns with `FewSamplesWarning` when a set has no more samples than dimensions: the value is exact for the
    samples but depends on their number (see `frechet_infinity`). Raises `ValueError` for sets that are not
    `(samples >= 2, dimensions)`, not finite, or of different dimensions.
    """
    prediction, reference = check_embeddings(prediction, reference)
    for name, samples in (("prediction", prediction), ("reference", reference)):
        _warn_of_few_samples(name, *samples.shape)
    return _distance(_Gaussian.of(prediction), _Gaussian.of(reference))


def frechet_distance_of_gaussians(
    prediction_mean: np.ndarray,
    prediction_covariance: np.ndarray,
    reference_mean: np.ndarray,
    reference_covariance: np.ndarray,
) -> float:
    """The same distance of two Gaussians of means `(dimensions,)` and covariances `(dimensions, dimensions)`.

    For statistics that were published in place of embeddings. Raises `ValueError` for shapes that do not fit,
    and for a covariance that is not symmetric or has a negative eigenvalue beyond rounding.
    """
    prediction = _Gaussian.from_covariance("prediction", prediction_mean, prediction_covariance)
    reference = _Gaussian.from_covariance("reference", reference_mean, reference_covariance)
    if prediction.mean.shape != reference.mean.shape:
        raise ValueError(
            f"`prediction_mean` has {len(prediction.mean)} dimensions, `reference_mean` "
            f"{len(reference.mean)}."
        )
    return _distance(prediction, reference)


def frechet_infinity(
    prediction: np.ndarray,
    reference: np.ndarray,
    smallest: int | None = None,
    num_sizes: int = 15,
    draws: int = 4,
    seed: int = 0,
) -> FrechetExtrapolation:
    r"""Fréchet distance extrapolated to infinitely many generated samples (FAD∞), unbiased by their number.

    The distance of N samples exceeds the true one by about a constant over N. Sets of N embeddings, drawn
    without replacement (with replacement the limit would be the distance of the given samples), are compared
    with the whole reference for `num_sizes` values of N evenly spaced in 1/N from `smallest` to all, each the
    mean of `draws` draws; a line in 1/N gives the value at 0. The reference's own number of samples is not
    extrapolated: it should be large. Source: Chong and Forsyth (2020); Gui et al. (2024).

    Args:
        smallest: the smallest N; by default a quarter of the samples. The law holds for N well above the
            number of dimensions; `FewSamplesWarning` where it is not above it.

    Raises `ValueError` as `frechet_distance` does, and for a `smallest` that is not between 2 and the number
    of samples, or fewer than two sizes.
    """
    prediction, reference = check_embeddings(prediction, reference)
    count, dimensions = prediction.shape
    smallest = count // SMALLEST_SHARE if smallest is None else smallest
    if not 2 <= smallest < count:
        raise ValueError(f"`smallest` must be at least 2 and below the {count} samples, got {smallest!r}.")
    if num_sizes < 2 or draws < 1:
        raise ValueError(f"`num_sizes` must be >= 2 and `draws` >= 1, got {num_sizes!r} and {draws!r}.")
    _warn_of_few_samples("prediction", smallest, dimensions)
    _warn_of_few_samples("reference", *reference.shape)

    generator = np.random.default_rng(seed)
    target = _Gaussian.of(reference)
    sizes = np.unique(np.round(1 / np.linspace(1 / smallest, 1 / count, num_sizes)).astype(int))
    distances = [
        np.mean(
            [
                _distance(_Gaussian.of(generator.permutation(prediction)[:size]), target)
                # All samples are one set, in whatever order.
                for _ in range(draws if size < count else 1)
            ]
        )
        for size in sizes
    ]
    slope, value = np.polyfit(1 / sizes, distances, 1)
    residual = np.sum((slope / sizes + value - distances) ** 2)
    spread = np.sum((distances - np.mean(distances)) ** 2)
    return FrechetExtrapolation(
        value=float(value),
        slope=float(slope),
        r_squared=float(1 - residual / spread) if spread > 0 else 1.0,
        sizes=tuple(sizes.tolist()),
        distances=tuple(float(distance) for distance in distances),
    )


def check_embeddings(
    prediction: np.ndarray, reference: np.ndarray, fewest: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, or `ValueError` unless they are finite `(samples >= fewest, dimensions)` alike."""
    arrays = []
    for name, embeddings in (("prediction", prediction), ("reference", reference)):
        array = np.asarray(embeddings, dtype=np.float64)
        if array.ndim != 2 or array.shape[0] < fewest or array.shape[1] == 0:
            raise ValueError(f"`{name}` must be (samples >= {fewest}, dimensions), got {array.shape}.")
        if not np.isfinite(array).all():
            raise ValueError(f"`{name}` holds NaN or infinite values.")
        arrays.append(array)
    if arrays[0].shape[1] != arrays[1].shape[1]:
        raise ValueError(
            f"`prediction` has {arrays[0].shape[1]} dimensions and `reference` {arrays[1].shape[1]}: they "
            "come from different embedders."
        )
    return arrays[0], arrays[1]


@dataclass(frozen=True)
class _Gaussian:
    """A mean, and a factor A `(rank, dimensions)` of the covariance A^T A."""

    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, samples: np.ndarray) -> _Gaussian:
        mean = samples.mean(axis=0)
        centred = (samples - mean) / np.sqrt(len(samples) - 1)
        return cls(mean, np.linalg.qr(centred, mode="r") if len(samples) > samples.shape[1] else centred)

    @classmethod
    def from_covariance(cls, name: str, mean: np.ndarray, covariance: np.ndarray) -> _Gaussian:
        mean, covariance = np.asarray(mean, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise ValueError(
                f"`{name}_mean` must be (dimensions,) and `{name}_covariance` (dimensions, dimensions), got "
                f"{mean.shape} and {covariance.shape}."
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError(f"`{name}_mean` or `{name}_covariance` holds NaN or infinite values.")
        if not np.allclose(covariance, covariance.T, rtol=1e-5, atol=1e-8 * np.abs(covariance).max()):
            raise ValueError(f"`{name}_covariance` is not symmetric.")
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        if values[0] < -1e-5 * max(values[-1], 0.0):
            raise ValueError(f"`{name}_covariance` has the negative eigenvalue {values[0]:.3g}.")
        return cls(mean, np.sqrt(values.clip(min=0))[:, None] * vectors.T)


def _distance(first: _Gaussian, second: _Gaussian) -> float:
    root_trace = np.linalg.svd(first.factor @ second.factor.T, compute_uv=False).sum()
    spread = np.square(first.factor).sum() + np.square(second.factor).sum() - 2 * root_trace
    return float(np.square(first.mean - second.mean).sum() + max(spread, 0.0))


def _warn_of_few_samples(name: str, samples: int, dimensions: int) -> None:
    if samples <= dimensions:
        warnings.warn(
            f"`{name}` is measured on {samples} samples of {dimensions} dimensions: the covariance is "
            "singular and the Fréchet distance far above that of more samples.",
            FewSamplesWarning,
            stacklevel=3,
        )
