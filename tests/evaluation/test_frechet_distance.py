"""Fréchet distance: closed forms, few samples, and the extrapolation to infinitely many."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from star_hf.evaluation.distribution import (
    FewSamplesWarning,
    frechet_distance,
    frechet_distance_of_gaussians,
    frechet_infinity,
)


def _random_covariance(generator, dimensions):
    factor = generator.normal(size=(2 * dimensions, dimensions))
    return factor.T @ factor / dimensions


def _symmetric_root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(values) @ vectors.T


def test_one_dimension_by_hand():
    """(5 - 2)^2 + (s_p - s_r)^2, with variances 1 of (1, 2, 3) and 8 of (3, 7)."""
    distance = frechet_distance(np.array([[1.0], [2.0], [3.0]]), np.array([[3.0], [7.0]]))
    assert distance == pytest.approx(9 + (1 - np.sqrt(8)) ** 2, rel=1e-12)


def test_commuting_covariances_are_a_sum_over_dimensions():
    means, stds = np.array([[0.0, 1.0, 2.0], [1.0, 1.0, -1.0]]), np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 0.0]])
    distance = frechet_distance_of_gaussians(means[0], np.diag(stds[0] ** 2), means[1], np.diag(stds[1] ** 2))
    assert distance == pytest.approx(10 + 1 + 9, rel=1e-12)


def test_equals_the_definition_where_covariances_do_not_commute():
    """The trace of the root, by the symmetric product Σ_p^½ Σ_r Σ_p^½."""
    generator = np.random.default_rng(0)
    first, second = (_random_covariance(generator, 6) for _ in range(2))
    mean = generator.normal(size=(2, 6))
    root = _symmetric_root(first)
    product = np.linalg.eigvalsh(root @ second @ root)
    expected = np.sum((mean[0] - mean[1]) ** 2) + np.trace(first + second) - 2 * np.sqrt(product).sum()

    distance = frechet_distance_of_gaussians(mean[0], first, mean[1], second)
    assert distance == pytest.approx(expected, rel=1e-10)
    # Samples whose statistics are exactly these.
    white = generator.normal(size=(40, 6))
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white.T)).T)
    samples = [white @ _symmetric_root(cov) + mu for cov, mu in zip((first, second), mean, strict=True)]
    assert frechet_distance(*samples) == pytest.approx(expected, rel=1e-10)


def test_few_samples_are_exact_and_warned_of():
    """Two samples in a thousand dimensions: each covariance has one direction, so all is known by hand."""
    prediction, reference = np.zeros((2, 1000)), np.zeros((2, 1000))
    prediction[:, 0] = [1, -1]  # variance 2 along the first axis
    reference[:, 0], reference[:, 1] = [2, -2], [2, -2]  # variance 16 along the diagonal
    # The root's trace is the standard deviations' product times the cosine between the directions.
    expected = 2 + 16 - 2 * np.sqrt(2) * 4 / np.sqrt(2)
    with pytest.warns(FewSamplesWarning, match="is measured on 2 samples of 1000 dimensions") as warned:
        assert frechet_distance(prediction, reference) == pytest.approx(expected, rel=1e-12)
    assert ["`prediction`" in str(warning.message) for warning in warned] == [True, False]


def test_equal_sets_are_at_zero_even_when_singular():
    samples = np.random.default_rng(0).normal(size=(20, 50)).astype(np.float32)
    with pytest.warns(FewSamplesWarning):
        assert frechet_distance(samples, samples[::-1]) == pytest.approx(0, abs=1e-10)


def test_many_samples_do_not_warn():
    samples = np.random.default_rng(0).normal(size=(20, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(samples, samples + 1)


def test_extrapolation_is_nearer_to_the_truth_than_the_distance_itself():
    """Gaussians a known distance apart; the prediction has few samples, the reference many."""
    generator = np.random.default_rng(0)
    dimensions, shift = 12, 0.5
    reference = generator.normal(size=(40_000, dimensions))
    truth = shift**2 * dimensions
    plain, extrapolated = [], []
    for trial in range(6):
        prediction = generator.normal(size=(200, dimensions)) + shift
        plain.append(frechet_distance(prediction, reference) - truth)
        extrapolated.append(frechet_infinity(prediction, reference, seed=trial).value - truth)
    assert np.mean(plain) > 0.2  # the bias that every set of this size has
    assert abs(np.mean(extrapolated)) < np.mean(plain) / 3


def test_extrapolation_fits_a_line_in_one_over_n():
    generator = np.random.default_rng(0)
    prediction, reference = generator.normal(size=(400, 8)), generator.normal(size=(5000, 8))
    result = frechet_infinity(prediction, reference, smallest=50, num_sizes=6, draws=8)
    assert result.sizes[0] == 50 and result.sizes[-1] == 400 and len(result.sizes) == 6
    assert np.diff(1 / np.array(result.sizes)) == pytest.approx(-(1 / 50 - 1 / 400) / 5, rel=0.1)
    assert result.distances[-1] == pytest.approx(frechet_distance(prediction, reference))
    assert result.slope > 0 and result.value < result.distances[-1] < result.distances[0]
    assert result.r_squared > 0.9
    assert result == frechet_infinity(prediction, reference, smallest=50, num_sizes=6, draws=8)


def test_wrong_embeddings_are_refused():
    good = np.zeros((4, 3))
    for prediction, message in [
        (np.zeros(3), "`prediction` must be"),
        (np.zeros((1, 3)), "samples >= 2"),
        (np.full((4, 3), np.nan), "`prediction` holds NaN"),
        (np.zeros((4, 2)), "`prediction` has 2 dimensions and `reference` 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            frechet_distance(prediction, good)
    with pytest.raises(ValueError, match="`reference` must be"):
        frechet_distance(good, np.zeros((1, 3)))
    with pytest.raises(ValueError, match="`smallest` must be at least 2 and below the 4"):
        frechet_infinity(good, good, smallest=4)
    with pytest.raises(ValueError, match="`num_sizes`"):
        frechet_infinity(good, good, smallest=2, num_sizes=1)


def test_wrong_statistics_are_refused():
    mean, covariance = np.zeros(2), np.eye(2)
    for wrong, message in [
        (np.eye(3), "`reference_covariance`"),
        (np.array([[1.0, 2.0], [0.0, 1.0]]), "`reference_covariance` is not symmetric"),
        (np.diag([1.0, -0.5]), "negative eigenvalue -0.5"),
        (np.diag([1.0, np.inf]), "NaN or infinite"),
    ]:
        with pytest.raises(ValueError, match=message):
            frechet_distance_of_gaussians(mean, covariance, mean, wrong)
    with pytest.raises(ValueError, match="has 2 dimensions, `reference_mean` 3"):
        frechet_distance_of_gaussians(mean, covariance, np.zeros(3), np.eye(3))
