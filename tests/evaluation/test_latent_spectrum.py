"""The spectral decay exponent on maps of known slope."""

import json
import math

import numpy as np
import pytest
import torch

from star_hf.evaluation import LatentSpectrum, RadialSpectrum


def radius(channels, frames):
    periods = np.fft.fftfreq(channels, 1 / channels), np.fft.fftfreq(frames, 1 / frames)
    return np.hypot(periods[0][:, None], periods[1])


def power_law_map(alpha, channels, frames, seed=0, rounded=False):
    """A real map `(1, channels, frames)` whose power is radius^(−α) at each frequency, of random phases."""
    noise = np.fft.fft2(np.random.default_rng(seed).standard_normal((channels, frames)))
    distance = radius(channels, frames)
    distance[0, 0] = 1
    amplitude = (np.round(distance) if rounded else distance) ** (-alpha / 2)
    return torch.from_numpy(np.fft.ifft2(noise / np.abs(noise) * amplitude).real)[None]


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("size", [32, 33])
def test_a_power_law_over_the_rings_is_met_exactly(alpha, size):
    spectrum = LatentSpectrum().update(power_law_map(alpha, size, size, rounded=True)).spectrum()
    rings = np.arange(1, size // 2 + 1)
    np.testing.assert_allclose(spectrum.power[1:], rings**-alpha, rtol=1e-9)
    assert spectrum.spectral_decay == pytest.approx(alpha, abs=1e-9)


@pytest.mark.parametrize(("alpha", "expected"), [(1.0, 0.962), (2.0, 1.929)])
def test_maps_of_a_continuous_power_law(alpha, expected):
    """Rings are one period wide: the first mixes radius 1 with √2, which takes 4% off the slope at 64."""
    spectrum = LatentSpectrum().update(power_law_map(alpha, 64, 64)).spectrum()
    assert spectrum.power[1] == pytest.approx((1 + 2 ** (-alpha / 2)) / 2)
    assert spectrum.spectral_decay == pytest.approx(expected, abs=1e-3)


def test_white_noise_is_flat():
    generator = torch.Generator().manual_seed(0)
    spectrum = LatentSpectrum().update(torch.randn(40, 32, 64, generator=generator)).spectrum()
    assert spectrum.spectral_decay == pytest.approx(0, abs=0.05)
    # E|X̂|² of unit white noise is the number of points
    np.testing.assert_allclose(spectrum.power[1:], 32 * 32, rtol=0.15)
    assert spectrum.num_windows == 80


def test_smoothing_over_channels_raises_the_exponent():
    """What LAFA is meant to do: the same noise, averaged over neighbouring channels."""
    noise = torch.randn(4, 33, 32)
    rough = LatentSpectrum().update(noise[:, 1:]).spectrum().spectral_decay
    smooth = LatentSpectrum().update(noise[:, 1:] + noise[:, :-1]).spectrum().spectral_decay
    assert smooth > rough + 0.2


def test_the_rings_are_those_of_pysteps():
    """Radii in whole periods per window along both axes, divided by the longer one."""
    latents = torch.randn(2, 6, 11, dtype=torch.float64)
    spectrum = LatentSpectrum(window=11).update(latents).spectrum()
    power = (np.abs(np.fft.fft2(latents.numpy())) ** 2).mean(axis=0)
    rings = np.round(radius(6, 11))
    expected = [power[rings == ring].mean() for ring in range(11 // 2 + 1)]
    np.testing.assert_allclose(spectrum.power, expected, rtol=1e-10)
    np.testing.assert_allclose(spectrum.frequencies, np.arange(6) / 11)


def test_windows_count_equally_however_the_clips_come():
    latents = torch.randn(3, 8, 16)
    whole = LatentSpectrum().update(latents).spectrum()
    single = LatentSpectrum()
    for clip in latents:
        single.update(torch.nn.functional.pad(clip[None], (0, 5)))
    parts = single.spectrum()
    assert parts.power == pytest.approx(whole.power, rel=1e-12)
    assert (parts.num_windows, parts.skipped_frames) == (6, 15)
    assert whole.skipped_frames == 0


def test_the_level_does_not_change_the_slope():
    latents = power_law_map(1.5, 32, 32)
    quiet, loud = (LatentSpectrum().update(scale * latents).spectrum().spectral_decay for scale in (1, 100))
    assert quiet == pytest.approx(loud, rel=1e-9)


def test_a_map_without_power_has_no_slope():
    spectrum = LatentSpectrum().update(torch.zeros(1, 8, 8)).spectrum()
    assert math.isnan(spectrum.spectral_decay)
    content = json.loads(json.dumps(spectrum.to_dict(), allow_nan=False))
    assert content["spectral_decay"] is None
    assert math.isnan(RadialSpectrum((1.0, 2.0), 2, 1).spectral_decay)


def test_the_json_holds_plain_numbers():
    spectrum = LatentSpectrum().update(power_law_map(1.0, 32, 32, rounded=True)).spectrum()
    content = json.loads(json.dumps(spectrum.to_dict(), allow_nan=False))
    assert content["spectral_decay"] == pytest.approx(1.0)
    assert content["window_frames_and_channels"] == 32
    assert len(content["radial_power"]) == 17


def test_wrong_latents_are_refused():
    with pytest.raises(ValueError, match="No latents were added"):
        LatentSpectrum().spectrum()
    with pytest.raises(ValueError, match="No clip of 8 frames was added"):
        LatentSpectrum().update(torch.randn(1, 8, 7)).spectrum()
    with pytest.raises(ValueError, match="one channel"):
        LatentSpectrum().update(torch.randn(1, 1, 9))
    with pytest.raises(ValueError, match="3 channels, earlier ones had 4"):
        LatentSpectrum().update(torch.randn(1, 4, 9)).update(torch.randn(1, 3, 9))
    with pytest.raises(ValueError, match="`window`"):
        LatentSpectrum(window=1)
