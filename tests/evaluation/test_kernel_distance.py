"""Kernel distances by brute force, tag divergence and text-audio similarity by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from star_hf.evaluation import distribution_kernel
from star_hf.evaluation.distribution_kernel import (
    kernel_audio_distance,
    median_distance,
    polynomial_kernel_distance,
)
from star_hf.evaluation.distribution_pairs import tag_divergence, text_audio_similarity


def _sets(first=5, second=7, dimensions=3):
    generator = np.random.default_rng(0)
    return generator.normal(size=(first, dimensions)) + 0.7, 1.5 * generator.normal(size=(second, dimensions))


def _brute_force_mmd(prediction, reference, kernel):
    among = [
        np.mean([kernel(x, y) for i, x in enumerate(samples) for j, y in enumerate(samples) if i != j])
        for samples in (prediction, reference)
    ]
    return sum(among) - 2 * np.mean([kernel(x, y) for x in prediction for y in reference])


def test_gaussian_kernel_by_brute_force(monkeypatch):
    prediction, reference = _sets()
    pairs = [np.linalg.norm(x - y) for i, x in enumerate(reference) for y in reference[i + 1 :]]
    sigma = np.median(pairs)
    expected = _brute_force_mmd(
        prediction, reference, lambda x, y: math.exp(-np.sum((x - y) ** 2) / (2 * sigma**2))
    )
    assert median_distance(reference) == pytest.approx(sigma)
    assert kernel_audio_distance(prediction, reference) == pytest.approx(100 * expected)
    assert kernel_audio_distance(prediction, reference, scale=1) == pytest.approx(expected)
    monkeypatch.setattr(distribution_kernel, "BLOCK", 2)
    assert kernel_audio_distance(prediction, reference) == pytest.approx(100 * expected)


def test_bandwidth_is_the_reference_s():
    """Swapped arguments use the other set's median."""
    prediction, reference = _sets()
    expected = kernel_audio_distance(prediction, reference, bandwidth=median_distance(reference))
    assert kernel_audio_distance(prediction, reference) == expected
    assert abs(kernel_audio_distance(reference, prediction) - expected) > 0.1


def test_polynomial_kernel_by_brute_force():
    prediction, reference = _sets()
    for degree, offset in ((3, 1.0), (2, 0.0)):
        expected = _brute_force_mmd(
            prediction, reference, lambda x, y, d=degree, c=offset: (np.dot(x, y) / 3 + c) ** d
        )
        assert polynomial_kernel_distance(prediction, reference, degree, offset) == pytest.approx(expected)


def test_linear_kernel_is_the_squared_distance_of_means_without_bias():
    """Its expectation is exactly |mean difference|^2 / d, whatever the number of samples."""
    generator = np.random.default_rng(0)
    values = [
        polynomial_kernel_distance(generator.normal(size=(4, 5)) + 1, generator.normal(size=(6, 5)), degree=1)
        for _ in range(3000)
    ]
    assert np.mean(values) == pytest.approx(1, abs=4 * np.std(values) / math.sqrt(len(values)))


def test_equal_distributions_are_around_zero():
    generator = np.random.default_rng(0)
    values = [
        kernel_audio_distance(generator.normal(size=(20, 4)), generator.normal(size=(20, 4)), scale=1)
        for _ in range(200)
    ]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values))


def test_median_of_many_samples_takes_evenly_spaced_ones(monkeypatch):
    samples = np.arange(101.0)[:, None]
    monkeypatch.setattr(distribution_kernel, "MEDIAN_SAMPLES", 3)
    assert median_distance(samples) == 50  # of 0, 50, 100


def test_wrong_arguments_of_kernels_are_refused():
    prediction, reference = _sets()
    with pytest.raises(ValueError, match="`bandwidth` must be > 0, got -1"):
        kernel_audio_distance(prediction, reference, bandwidth=-1)
    with pytest.raises(ValueError, match="`reference` has a median distance of 0"):
        kernel_audio_distance(prediction, np.ones_like(reference))
    with pytest.raises(ValueError, match="`degree`"):
        polynomial_kernel_distance(prediction, reference, degree=0)
    with pytest.raises(ValueError, match="different embedders"):
        polynomial_kernel_distance(prediction[:, :2], reference)


def test_tag_divergence_by_hand_and_in_this_direction():
    prediction = torch.tensor([[math.log(2), 0.0, 0.0]])  # 1/2, 1/4, 1/4
    reference = torch.tensor([[math.log(6), math.log(3), 0.0]])  # 6/10, 3/10, 1/10
    expected = 0.5 * math.log(5 / 6) + 0.25 * math.log(5 / 6) + 0.25 * math.log(2.5)
    swapped = 0.6 * math.log(6 / 5) + 0.3 * math.log(6 / 5) + 0.1 * math.log(0.4)
    assert tag_divergence(prediction, reference, epsilon=0).item() == pytest.approx(expected)
    assert tag_divergence(reference, prediction, epsilon=0).item() == pytest.approx(swapped)
    assert abs(expected - swapped) > 0.01


def test_epsilon_bounds_what_the_reference_rules_out():
    prediction, reference = torch.tensor([[200.0, 0.0]]), torch.tensor([[0.0, 200.0]])
    assert tag_divergence(prediction, reference).item() == pytest.approx(-math.log(1e-6))


def test_sigmoid_divergence_counts_presence_and_absence():
    prediction, reference = torch.tensor([[math.log(3.0)]]), torch.tensor([[0.0]])  # 3/4 and 1/2
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert tag_divergence(prediction, reference, "sigmoid", epsilon=0).item() == pytest.approx(expected)
    assert tag_divergence(reference, reference, "sigmoid", epsilon=0).item() == pytest.approx(0)


def test_pairs_are_measured_each_on_its_own():
    generator = torch.Generator().manual_seed(0)
    prediction, reference = torch.randn(2, 3, 5, generator=generator)
    for metric in (tag_divergence, text_audio_similarity):
        each = [metric(prediction[i : i + 1], reference[i : i + 1]).item() for i in range(3)]
        assert metric(prediction, reference, reduction="none").tolist() == pytest.approx(each)
        assert metric(prediction, reference).item() == pytest.approx(np.mean(each))


def test_text_audio_similarity_by_hand():
    audio, text = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [0.0, 2.0]])
    assert text_audio_similarity(audio, text, reduction="none").tolist() == pytest.approx([0.96, 0])


def test_wrong_pairs_are_refused():
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="`activation`"):
        tag_divergence(logits, logits, "relu")
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(1, 3\)"):
        tag_divergence(logits, logits[:1])
    with pytest.raises(ValueError, match="`reference` holds NaN"):
        tag_divergence(logits, logits / 0)
    with pytest.raises(ValueError, match=r"`text` must be \(clips > 0, dimensions\)"):
        text_audio_similarity(logits, logits[0])
