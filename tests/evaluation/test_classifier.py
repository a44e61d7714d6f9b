"""The judge tells sounds apart by what they are, not by level, padding or layout."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from star_hf.audio import read_audio
from star_hf.evaluation.classifier import SILENCE, ClipJudge, JudgeReport, clip_features, cross_validate

RATE = 44100
ESC10 = Path(__file__).parents[3] / "shared" / "data" / "esc10" / "train"


def _clip(kind: str, seed: int, seconds: float = 2.0) -> torch.Tensor:
    """A hum, noise, or clicks, (1, samples); seeds vary pitch, rate and level."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    if kind == "hum":
        samples = np.sin(2 * math.pi * random.uniform(200, 400) * time)
    elif kind == "noise":
        samples = random.normal(size=len(time))
    else:
        samples = (np.sin(2 * math.pi * random.uniform(2, 4) * time) > 0.99) * random.normal(size=len(time))
    samples = samples + 0.01 * random.normal(size=len(time))
    return torch.from_numpy(samples * random.uniform(0.01, 0.3)).float()[None]


@pytest.fixture(scope="module")
def clips():
    """Waveforms, features, labels, folds of three synthetic classes."""
    kinds = [kind for _ in range(6) for kind in ("hum", "noise", "clicks")]
    waveforms = [_clip(kind, seed) for seed, kind in enumerate(kinds)]
    features = np.stack([clip_features(waveform, RATE) for waveform in waveforms])
    return waveforms, features, kinds, [index // 3 % 3 for index in range(len(kinds))]


def test_level_and_layout_change_nothing():
    clip = _clip("clicks", 0)
    features = clip_features(clip, RATE)
    assert np.allclose(clip_features(0.01 * clip, RATE), features, atol=1e-3)
    assert np.allclose(clip_features(clip.repeat(2, 1), RATE), features, atol=1e-3)


def test_faint_noise_in_digital_silence_changes_little():
    """A decoder fills the zeros that recordings are padded with; that must not look like another sound."""
    clip = torch.nn.functional.pad(_clip("hum", 0), (0, 2 * RATE))
    noisy = clip + 1e-4 * clip.abs().max() * torch.randn(clip.shape)
    other = torch.nn.functional.pad(_clip("noise", 0), (0, 2 * RATE))
    change = np.abs(clip_features(noisy, RATE) - clip_features(clip, RATE)).mean()
    assert change < 0.05 * np.abs(clip_features(other, RATE) - clip_features(clip, RATE)).mean()


def test_features_have_one_size_for_any_length_and_rate():
    size = len(clip_features(_clip("noise", 0), RATE))
    assert len(clip_features(_clip("noise", 0, seconds=0.01), RATE)) == size
    assert len(clip_features(_clip("noise", 0, seconds=7), 16000)) == size
    assert np.isfinite(clip_features(torch.ones(1, 1), RATE)).all()


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (torch.zeros(1, 4000), "silent"),
        (torch.full((1, 4000), torch.nan), "NaN"),
        (torch.zeros(4000), "channels, samples"),
        (torch.zeros(1, 0), "channels, samples"),
    ],
)
def test_clips_without_a_spectrum_are_refused(clip, message):
    with pytest.raises(ValueError, match=message):
        clip_features(clip, RATE)


def test_unseen_clips_are_recognized(clips):
    _, features, labels, folds = clips
    report = cross_validate(features, labels, folds)
    assert report.accuracy == 1.0
    assert report.num_clips == len(labels)


def test_folds_hold_the_judged_clip_out(clips):
    """A label that means nothing cannot be predicted for unseen clips, though it can be learned by heart."""
    _, features, _, _ = clips
    random = np.random.default_rng(0)
    features = random.normal(size=features.shape)
    labels = [str(label) for label in random.integers(0, 3, len(features))]
    assert ClipJudge(1e3).fit(features, labels).assign(features) == labels
    assert cross_validate(features, labels, list(range(len(labels)))).accuracy < 0.7


def test_another_version_of_the_clips_is_judged_instead(clips):
    _, features, labels, folds = clips
    shifted = features[[labels.index("hum")] * len(labels)]
    report = cross_validate(features, labels, folds, shifted)
    assert report.accuracy == pytest.approx(1 / 3)
    assert report.confusion["noise"] == {"clicks": 0, "hum": 6, "noise": 0}


def test_silent_and_broken_clips_belong_to_no_class(clips):
    waveforms, features, labels, _ = clips
    judge = ClipJudge().fit(features, labels)
    assigned = judge.assign_clips(
        [torch.zeros(1, RATE), torch.full((1, RATE), torch.inf), waveforms[0]], RATE
    )
    assert assigned == [SILENCE, SILENCE, labels[0]]


def test_report_counts():
    report = JudgeReport.of(["a", "a", "b", "b"], ["a", "b", "b", SILENCE])
    assert report.accuracy == 0.5
    assert report.per_class == {"a": 0.5, "b": 0.5}
    assert report.confusion == {"a": {"a": 1, "b": 1, SILENCE: 0}, "b": {"a": 0, "b": 1, SILENCE: 1}}


def test_wrong_numbers_of_rows_are_refused(clips):
    _, features, labels, folds = clips
    with pytest.raises(ValueError, match="one row per clip"):
        cross_validate(features, labels[:-1], folds)
    with pytest.raises(ValueError, match="two folds"):
        cross_validate(features, labels, [1] * len(labels))
    with pytest.raises(ValueError, match="two classes"):
        ClipJudge().fit(features, ["a"] * len(labels))
    with pytest.raises(ValueError, match="`labels` has 1 entries"):
        ClipJudge().fit(features, ["a"])
    with pytest.raises(ValueError, match="0 classes"):
        JudgeReport.of([], [])


@pytest.mark.slow
@pytest.mark.skipif(not ESC10.is_dir(), reason="needs the ESC-10 recordings")
def test_unseen_real_clips_are_recognized():
    """The ceiling of the judge on ESC-10, folds 1 to 4."""
    with (ESC10 / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    features = np.stack([clip_features(*read_audio(ESC10 / row["file_name"])) for row in rows])
    report = cross_validate(features, [row["label"] for row in rows], [int(row["fold"]) for row in rows])
    assert report.accuracy >= 0.84
