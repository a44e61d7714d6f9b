"""The A curve against the table of IEC 61672-1."""

from __future__ import annotations

import pytest
import torch

from star_hf.losses import a_weighting_gain

# Third-octave bands counted from 1 kHz, and their levels in dB. The standard names rounded frequencies, but
# its levels belong to the exact ones, 1000 · 10^(band / 10) Hz.
PUBLISHED = {
    -15: -39.4,
    -12: -26.2,
    -10: -19.1,
    -9: -16.1,
    -7: -10.9,
    -6: -8.6,
    -3: -3.2,
    0: 0.0,
    3: 1.2,
    4: 1.3,
    6: 1.0,
    9: -1.1,
    12: -6.6,
}


@pytest.mark.parametrize(("band", "level"), PUBLISHED.items())
def test_levels_are_the_published_ones(band, level):
    gain = a_weighting_gain(torch.tensor(1000 * 10 ** (band / 10), dtype=torch.float64))
    assert 20 * gain.log10().item() == pytest.approx(level, abs=0.1)


def test_silence_at_zero_and_unity_at_one_kilohertz():
    assert a_weighting_gain(torch.tensor([0.0, 1000.0])).tolist() == [0.0, 1.0]


def test_shape_and_type_are_kept():
    for dtype in (torch.float32, torch.float64):
        gain = a_weighting_gain(torch.rand(2, 3, dtype=dtype) * 2e4)
        assert (gain.shape, gain.dtype) == ((2, 3), dtype)


def test_whole_numbers_of_hertz_give_fractional_gains():
    frequency = torch.tensor([100, 1000])
    torch.testing.assert_close(a_weighting_gain(frequency), a_weighting_gain(frequency.float()))
