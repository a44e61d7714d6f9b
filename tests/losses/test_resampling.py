"""Resampling of batches: sines come out as they are at the other rate, and as soxr has them."""

import numpy as np
import pytest
import soxr
import torch

from star_hf.losses.resampling import resample_batch


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44100, 16000), (44100, 48000), (16000, 48000)])
def test_resampled_sines_are_those_of_the_other_rate(from_rate, to_rate):
    """Sines up to 85% of the lower band keep level and phase, above it they are gone, as with soxr."""
    random = np.random.default_rng(0)
    lower = min(from_rate, to_rate)
    frequencies, phases = random.uniform(20, 0.85 * lower / 2, 20), random.uniform(0, 6, 20)

    def sines(rate):
        times = np.arange(rate // 4)[:, None] / rate
        return np.sin(2 * np.pi * frequencies * times + phases).sum(1) / 20

    waveform = sines(from_rate)
    inside = slice(1000, -1000)  # the ends are cut off
    resampled = resample_batch(torch.tensor(waveform)[None].float(), from_rate, to_rate)[0].double().numpy()
    assert len(resampled) == to_rate // 4
    np.testing.assert_allclose(resampled[inside], sines(to_rate)[inside], atol=2e-6)
    by_soxr = soxr.resample(waveform, from_rate, to_rate, quality="HQ")
    np.testing.assert_allclose(resampled[inside], by_soxr[inside], atol=5e-4)
    if from_rate > to_rate:
        above = np.sin(2 * np.pi * 1.01 * to_rate / 2 * np.arange(from_rate // 4) / from_rate)
        left = resample_batch(torch.tensor(above)[None].float(), from_rate, to_rate)[0, inside]
        assert left.abs().max() < 2e-5


def test_rates_without_a_common_divisor():
    waveform = torch.sin(2 * torch.pi * 440 * torch.arange(4410) / 44100)[None].repeat(2, 1)
    resampled = resample_batch(waveform, 44100, 22049)
    assert resampled.shape == (2, 2205)
    expected = torch.sin(2 * torch.pi * 440 * torch.arange(2205) / 22049)
    torch.testing.assert_close(resampled[1, 200:-200], expected[200:-200], rtol=0, atol=1e-3)
    assert resample_batch(waveform, 44100, 44100) is waveform


@pytest.mark.parametrize("rate", [0, -1, 44100.0, True])
def test_rates_that_cannot_be_are_refused(rate):
    for rates in ((rate, 16000), (16000, rate)):
        with pytest.raises(ValueError, match="must be a positive number of Hz"):
            resample_batch(torch.zeros(1, 100), *rates)
