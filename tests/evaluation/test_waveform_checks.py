"""Two clips are brought to one rate, layout and length only where that was asked for."""

from __future__ import annotations

import pytest
import torch

from star_hf.audio import AudioError, resample
from star_hf.evaluation import prepare_pair


def _clip(channels, samples, seed=0):
    return torch.randn(channels, samples, generator=torch.Generator().manual_seed(seed))


def test_a_pair_that_fits_is_left_alone():
    prediction, reference = _clip(2, 100), _clip(2, 100, seed=1)
    pair = prepare_pair(prediction, reference, 8000, 8000)
    assert torch.equal(pair.prediction, prediction[None]) and torch.equal(pair.reference, reference[None])
    assert pair.sampling_rate == 8000


@pytest.mark.parametrize(
    ("prediction", "rate", "message"),
    [
        (_clip(2, 100), 16000, "`prediction` is at 16000 Hz and `reference` at 8000 Hz; `resample`"),
        (_clip(1, 100), 8000, r"`prediction` has 1 channel\(s\) and `reference` 2; `channels`"),
        (_clip(2, 101), 8000, "`prediction` has 101 samples and `reference` 100; `lengths`"),
    ],
)
def test_differences_are_refused_by_default(prediction, rate, message):
    with pytest.raises(ValueError, match=message):
        prepare_pair(prediction, _clip(2, 100), rate, 8000)


def test_rates_are_converted_when_asked():
    prediction, reference = _clip(1, 1600), _clip(1, 800)
    pair = prepare_pair(prediction, reference, 16000, 8000, resample="reference")
    assert torch.equal(pair.prediction[0], resample(prediction, 16000, 8000))
    assert torch.equal(pair.reference[0], reference) and pair.sampling_rate == 8000
    pair = prepare_pair(prediction, reference, 16000, 8000, resample=4000)
    assert pair.prediction.shape == pair.reference.shape == (1, 1, 400)
    assert torch.equal(pair.reference[0], resample(reference, 8000, 4000)) and pair.sampling_rate == 4000


def test_layouts_are_converted_when_asked():
    mono, stereo = _clip(1, 10), _clip(2, 10)
    pair = prepare_pair(mono, stereo, 8000, 8000, channels="reference")
    assert torch.equal(pair.prediction[0], mono.repeat(2, 1)) and torch.equal(pair.reference[0], stereo)
    pair = prepare_pair(mono, stereo, 8000, 8000, channels=1)
    assert torch.equal(pair.reference[0, 0], stereo.mean(dim=0)) and torch.equal(pair.prediction[0], mono)
    with pytest.raises(AudioError, match="6 channels"):
        prepare_pair(_clip(6, 10), stereo, 8000, 8000, channels="reference")


def test_lengths_are_converted_when_asked():
    longer, shorter = _clip(1, 12), _clip(1, 10)
    pair = prepare_pair(longer, shorter, 8000, 8000, lengths="shorter")
    assert torch.equal(pair.prediction[0], longer[:, :10]) and torch.equal(pair.reference[0], shorter)
    pair = prepare_pair(shorter, longer, 8000, 8000, lengths="shorter")
    assert torch.equal(pair.reference[0], longer[:, :10])
    pair = prepare_pair(shorter, longer, 8000, 8000, lengths="reference")
    assert torch.equal(pair.prediction[0, :, :10], shorter) and not pair.prediction[0, :, 10:].any()
    assert torch.equal(pair.reference[0], longer)
    assert prepare_pair(longer, shorter, 8000, 8000, lengths="reference").prediction.shape == (1, 1, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resample": 0}, "`resample` must be None, 'reference' or a rate > 0 Hz, got 0"),
        ({"resample": "prediction"}, "`resample`"),
        ({"channels": 0}, "`channels` must be None, 'reference' or a number >= 1, got 0"),
        ({"channels": "mono"}, "`channels`"),
        ({"lengths": "longer"}, "`lengths` must be"),
    ],
)
def test_unknown_conversions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        prepare_pair(_clip(1, 10), _clip(1, 10), 8000, 8000, **options)


def test_wrong_clips_are_refused():
    good = _clip(1, 10)
    with pytest.raises(ValueError, match=r"`reference` must be \(channels, samples > 0\), got \(1, 1, 10\)"):
        prepare_pair(good, good[None], 8000, 8000)
    with pytest.raises(ValueError, match="`prediction` holds NaN"):
        prepare_pair(good / 0, good, 8000, 8000)
    with pytest.raises(TypeError, match=r"`prediction` must be a floating-point tensor, got torch.int64"):
        prepare_pair(good.long(), good, 8000, 8000)
    with pytest.raises(ValueError, match="`reference_rate` must be > 0 Hz"):
        prepare_pair(good, good, 8000, -1)
