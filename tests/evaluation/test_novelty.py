"""Copies are told from new clips."""

import numpy as np
import pytest

from star_hf.evaluation.novelty import measure_novelty

RANDOM = np.random.default_rng(0)
REAL = RANDOM.normal(size=(60, 40))
COPIES = REAL + 0.1 * RANDOM.normal(size=REAL.shape)


def test_copies_are_found():
    generated = REAL[:20] + 0.05 * RANDOM.normal(size=(20, 40))
    report = measure_novelty(REAL, COPIES, generated)
    assert report.near_copies == 1.0
    assert report.near_copies_among_real == 0.0
    assert report.generated_to_nearest < report.copy_distance < report.real_to_nearest


def test_new_clips_are_as_far_from_the_recordings_as_these_from_each_other():
    report = measure_novelty(REAL, COPIES, RANDOM.normal(size=(30, 40)))
    assert report.near_copies == 0.0
    assert report.generated_to_nearest == pytest.approx(report.real_to_nearest, rel=0.1)


def test_recordings_that_resemble_each_other_are_counted_too():
    real = np.concatenate([REAL, REAL[:15] + 0.01 * RANDOM.normal(size=(15, 40))])
    copies = real + 0.1 * RANDOM.normal(size=real.shape)
    report = measure_novelty(real, copies, RANDOM.normal(size=(10, 40)))
    assert report.near_copies_among_real == pytest.approx(30 / 75)


def test_units_of_the_features_do_not_matter():
    scale = np.geomspace(1e-3, 1e3, 40)
    generated = RANDOM.normal(size=(10, 40))
    plain, scaled = (measure_novelty(REAL * s, COPIES * s, generated * s) for s in (1.0, scale))
    assert scaled.generated_to_nearest == pytest.approx(plain.generated_to_nearest, rel=1e-4)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="of one shape"):
        measure_novelty(REAL, COPIES[:-1], REAL)
    with pytest.raises(ValueError, match="`generated`"):
        measure_novelty(REAL, COPIES, REAL[:, :-1])
