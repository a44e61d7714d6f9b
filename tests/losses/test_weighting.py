"""The A curve against the table of IEC 61672-1, the K curve against ITU-R BS.1770."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import torch

from star_hf.losses.weighting import (
    KWeighting,
    a_weighting_gain,
    k_weighting_coefficients,
    k_weighting_gain,
)

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
def test_a_levels_are_the_published_ones(band, level):
    gain = a_weighting_gain(torch.tensor(1000 * 10 ** (band / 10), dtype=torch.float64))
    assert 20 * gain.log10().item() == pytest.approx(level, abs=0.1)


def test_a_silence_at_zero_and_unity_at_one_kilohertz():
    assert a_weighting_gain(torch.tensor([0.0, 1000.0])).tolist() == [0.0, 1.0]


def test_a_shape_and_type_are_kept():
    for dtype in (torch.float32, torch.float64):
        gain = a_weighting_gain(torch.rand(2, 3, dtype=dtype) * 2e4)
        assert (gain.shape, gain.dtype) == ((2, 3), dtype)


def test_a_whole_numbers_of_hertz_give_fractional_gains():
    frequency = torch.tensor([100, 1000])
    torch.testing.assert_close(a_weighting_gain(frequency), a_weighting_gain(frequency.float()))


# Tables 1 and 2 of ITU-R BS.1770-4, annex 1, for 48 kHz: b₀ b₁ b₂ a₀ a₁ a₂ of both stages.
BS1770 = [
    [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585],
    [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
]


def test_k_coefficients_at_48_khz_are_the_standards():
    expected = torch.tensor(BS1770, dtype=torch.float64)
    torch.testing.assert_close(k_weighting_coefficients(48000), expected, rtol=0, atol=2e-14)


def test_k_gain_is_that_of_the_standards_filters():
    frequency = torch.linspace(0, 24000, 97, dtype=torch.float64)
    stages = [
        np.abs(scipy.signal.freqz(stage[:3], stage[3:], frequency.numpy(), fs=48000)[1]) for stage in BS1770
    ]
    gain = k_weighting_gain(frequency, 48000)
    torch.testing.assert_close(gain, torch.from_numpy(stages[0] * stages[1]), rtol=1e-9, atol=1e-9)
    assert gain[0] == 0


@pytest.mark.parametrize("sampling_rate", [32000, 44100, 48000, 96000])
def test_k_gain_at_997_hz_makes_up_for_the_standards_offset(sampling_rate):
    gain = k_weighting_gain(torch.tensor(997.0), sampling_rate)
    assert 20 * gain.log10().item() == pytest.approx(0.691, abs=0.01)


def test_k_curve_is_the_same_at_other_sampling_rates():
    """Within the warp of the bilinear transform: a fiftieth of a decibel below 8 kHz."""
    frequency = torch.logspace(1, math.log10(8000), 30, dtype=torch.float64)
    decibels = [20 * k_weighting_gain(frequency, rate).log10() for rate in (44100, 48000, 192000)]
    for other in decibels[1:]:
        torch.testing.assert_close(other, decibels[0], rtol=0, atol=0.02)


def test_k_shape_and_type_are_kept():
    for dtype in (torch.float32, torch.float64):
        gain = k_weighting_gain(torch.rand(2, 3, dtype=dtype) * 2e4, 44100)
        assert (gain.shape, gain.dtype) == ((2, 3), dtype)


@pytest.mark.parametrize("sampling_rate", [44100, 48000])
def test_full_scale_sine_at_997_hz_has_the_standards_loudness(sampling_rate):
    """A 0 dBFS sine at 997 Hz in one channel reads -3.01 LKFS."""
    sine = torch.sin(2 * math.pi * 997 * torch.arange(2 * sampling_rate, dtype=torch.float64) / sampling_rate)
    settled = KWeighting(sampling_rate)(sine)[sampling_rate:]
    loudness = -0.691 + 10 * settled.square().mean().log10().item()
    assert loudness == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("sampling_rate", [8000, 44100, 48000])
@pytest.mark.parametrize("samples", [1, 1000, 30000])
def test_filter_is_the_recursion_from_silence(sampling_rate, samples):
    waveform = torch.randn(2, 2, samples, dtype=torch.float64)
    sections = k_weighting_coefficients(sampling_rate).numpy()
    expected = torch.from_numpy(scipy.signal.sosfilt(sections, waveform.numpy()))
    torch.testing.assert_close(KWeighting(sampling_rate)(waveform), expected, rtol=0, atol=1e-6)


def test_gradient_is_the_filter_run_backwards():
    waveform = torch.randn(1, 2, 500, dtype=torch.float64, requires_grad=True)
    pull = torch.randn(1, 2, 500, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(KWeighting(44100)(waveform), waveform, pull)
    backwards = scipy.signal.sosfilt(k_weighting_coefficients(44100).numpy(), pull.flip(-1).numpy())
    torch.testing.assert_close(gradient, torch.from_numpy(backwards.copy()).flip(-1), rtol=0, atol=1e-6)


def test_single_precision_keeps_its_digits_and_half_precision_is_filtered_in_it():
    waveform = torch.randn(2, 2, 9000)
    module = KWeighting(44100)
    exact = module(waveform.double()).float()
    torch.testing.assert_close(module(waveform), exact, rtol=0, atol=1e-5)
    half = waveform.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        filtered = module(half)
    assert filtered.dtype == torch.float32
    assert torch.equal(filtered, module(half.float()))


def test_filter_is_no_part_of_a_checkpoint():
    assert not KWeighting().state_dict()


@pytest.mark.parametrize("sampling_rate", [0, 3000, -48000, math.inf, math.nan])
def test_sampling_rates_below_the_shelf_are_refused(sampling_rate):
    with pytest.raises(ValueError, match=f"`sampling_rate`.*{sampling_rate}"):
        k_weighting_gain(torch.zeros(1), sampling_rate)
    with pytest.raises(ValueError, match=f"`sampling_rate`.*{sampling_rate}"):
        KWeighting(sampling_rate)
