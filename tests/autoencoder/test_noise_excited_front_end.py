"""Log-magnitudes in, gains and carriers out: levels, the frozen noise and its position."""

from __future__ import annotations

import math

import pytest
import torch

from star_hf.autoencoder.filterbank import (
    LappedTransform,
    MultiBandFrontEnd,
    NoiseExcitedFrontEnd,
    _excitation,
)

SCALES = [0.5, 0.1, 0.02, 0.001]


def coloured_noise(bands: int, blocks: int, channels: int = 1) -> torch.Tensor:
    """Noise whose bands fall by 40 dB in all and which swells by 20 dB."""
    levels = torch.logspace(0, -2, bands)[:, None] * torch.logspace(-1, 0, blocks)
    coefficients = levels.repeat(channels, 1) * torch.randn(1, channels * bands, blocks)
    return LappedTransform(bands).synthesize(coefficients)


def gains_for(front_end: NoiseExcitedFrontEnd, features: torch.Tensor) -> torch.Tensor:
    """Parameters that give the noise the levels that `features` describe, without a carrier."""
    log_gain = front_end.gain * features + front_end.offset
    return torch.cat([log_gain, torch.zeros_like(log_gain)], dim=1)


@pytest.mark.parametrize("scales", [None, SCALES])
def test_features_are_the_closed_form(scales):
    audio = torch.randn(2, 2, 40, dtype=torch.float64)
    features = NoiseExcitedFrontEnd(4, scales).double().analyze(audio)
    bare = LappedTransform(4).double().analyze(audio).unflatten(1, (2, 4))
    energy = (bare / torch.tensor(scales or [1.0] * 4)[:, None]).square()
    padded = torch.nn.functional.pad(energy, (1, 1))
    mean = (padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]) / 3
    torch.testing.assert_close(features, ((0.5 * (mean + 1e-8).log() + 4) / 3).flatten(1, 2))


def test_features_are_logarithmic_in_the_level():
    front_end = NoiseExcitedFrontEnd(8).double()
    audio = 10 * torch.randn(1, 2, 8 * 30, dtype=torch.float64)
    shift = front_end.analyze(10 * audio) - front_end.analyze(audio)
    torch.testing.assert_close(shift, torch.full_like(shift, math.log(10) / 3), rtol=0, atol=1e-5)


def test_silence_has_finite_features_and_gradients():
    front_end = NoiseExcitedFrontEnd(4, SCALES)
    audio = torch.zeros(1, 1, 40).requires_grad_()
    features = front_end.analyze(audio)
    torch.testing.assert_close(features, torch.full_like(features, (math.log(1e-4) + 4) / 3))
    front_end.synthesize(gains_for(front_end, features)).sum().backward()
    assert torch.isfinite(audio.grad).all()


def test_noise_with_the_gains_of_a_recording_has_its_band_levels():
    bands, blocks = 16, 600
    front_end = NoiseExcitedFrontEnd(bands, [0.3, 0.05, 0.01])
    audio = coloured_noise(bands, blocks)
    imitation = front_end.synthesize(gains_for(front_end, front_end.analyze(audio)))
    assert imitation.shape == audio.shape
    correlation = torch.corrcoef(torch.stack([audio.flatten(), imitation.flatten()]))[0, 1]
    assert correlation.abs() < 0.2

    def levels_in_db(signal):
        energy = front_end.transform.analyze(signal).square()
        return 10 * torch.nn.functional.avg_pool1d(energy, 50).log10()

    error = levels_in_db(imitation) - levels_in_db(audio)
    assert error.abs().mean() < 1.5
    assert error.mean().abs() < 0.3


@pytest.mark.parametrize("channels", [1, 2])
def test_coefficients_are_gain_times_carrier_plus_noise(channels):
    front_end = NoiseExcitedFrontEnd(4, SCALES).double()
    log_gain, carrier = torch.randn(2, 3, channels * 4, 20, dtype=torch.float64)
    audio = front_end.synthesize(torch.cat([log_gain, carrier], dim=1), first_block=7)
    noise = _excitation(4, audio.device)[:, 7:27]
    gain = (log_gain - 1).exp() * torch.tensor(SCALES).repeat(channels)[:, None]
    expected = gain * (carrier + noise.repeat(channels, 1))
    torch.testing.assert_close(front_end.transform.analyze(audio), expected, rtol=0, atol=1e-7)


def test_gains_are_bounded():
    front_end = NoiseExcitedFrontEnd(4).double()
    parameters = torch.zeros(1, 8, 10, dtype=torch.float64)
    parameters[:, :4] = 5.0
    loudest = front_end.synthesize(parameters)
    parameters[:, :4] = 1000.0
    assert torch.equal(front_end.synthesize(parameters), loudest)


def test_channels_with_equal_parameters_are_equal():
    front_end = NoiseExcitedFrontEnd(4, SCALES)
    log_gain, carrier = torch.randn(2, 1, 4, 20)
    parameters = torch.cat([log_gain.repeat(1, 2, 1), carrier.repeat(1, 2, 1)], dim=1)
    stereo = front_end.synthesize(parameters)
    assert stereo.shape == (1, 2, 80) and stereo.any()
    assert torch.equal(stereo[:, 0], stereo[:, 1])
    assert torch.equal(stereo[:, :1], front_end.synthesize(torch.cat([log_gain, carrier], dim=1)))


def test_the_noise_never_changes():
    """Checkpoints were trained with it: numbers of `numpy.random.RandomState(0)`, band by band."""
    noise = _excitation(4, torch.device("cpu"))
    assert noise.shape == (4, 4096) and noise.dtype == torch.float32
    expected = {
        0: [1.7640524, 0.4001572, 0.978738, 2.2408931],
        1: [1.867558, -0.9772779, 0.95008844, -0.1513572],
        4095: [0.49736643, -0.8761262, -0.7698, 0.9660003],
    }
    for block, values in expected.items():
        torch.testing.assert_close(noise[:, block], torch.tensor(values), rtol=0, atol=1e-6)


@pytest.mark.parametrize("start", [1, 13])
def test_first_block_continues_the_noise(start):
    front_end = NoiseExcitedFrontEnd(4, SCALES)
    parameters = torch.randn(1, 16, 20)
    whole = front_end.synthesize(parameters)[..., start * 4 :]
    tail = front_end.synthesize(parameters[..., start:], first_block=start)
    # Half a block overlaps with the one before.
    torch.testing.assert_close(tail[..., 2:], whole[..., 2:], rtol=1e-5, atol=1e-6)
    anew = front_end.synthesize(parameters[..., start:])
    assert (anew[..., 2:] - whole[..., 2:]).abs().max() > 0.1 * whole.abs().max()


def test_the_noise_repeats_after_4096_blocks():
    front_end = NoiseExcitedFrontEnd(4)
    parameters = torch.randn(1, 8, 20)
    expected = front_end.synthesize(parameters, first_block=5)
    assert torch.equal(front_end.synthesize(parameters, first_block=5 + 3 * 4096), expected)
    across = front_end.synthesize(parameters, first_block=4090)
    start = front_end.synthesize(parameters[..., 6:])
    torch.testing.assert_close(across[..., 26:], start[..., 2:], rtol=1e-5, atol=1e-6)


def test_scales_are_interpolated_on_a_logarithmic_scale():
    assert NoiseExcitedFrontEnd(4, SCALES).scales == pytest.approx(SCALES, rel=1e-12)
    # Centres at 1/4 and 3/4 of the range; bands at 1/8, 3/8, 5/8 and 7/8.
    ratio = 0.01 / 0.16
    expected = [0.16, 0.16 * ratio**0.25, 0.16 * ratio**0.75, 0.01]
    assert NoiseExcitedFrontEnd(4, [0.16, 0.01]).scales == pytest.approx(expected, rel=1e-12)
    # Fewer bands than scales: at 1/4 and 3/4, halfway between the first two and the last two of four.
    expected = [math.sqrt(0.5 * 0.1), math.sqrt(0.02 * 0.001)]
    assert NoiseExcitedFrontEnd(2, SCALES).scales == pytest.approx(expected, rel=1e-12)
    assert NoiseExcitedFrontEnd(6, [0.3]).scales == pytest.approx([0.3] * 6, rel=1e-12)


def test_the_arithmetic_is_float32_under_autocast_and_in_half_precision():
    front_end = NoiseExcitedFrontEnd(4, SCALES)
    audio, parameters = torch.randn(1, 1, 40), torch.randn(1, 8, 10).bfloat16()
    features, expected = front_end.analyze(audio), front_end.synthesize(parameters.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(front_end.analyze(audio), features)
        assert torch.equal(front_end.synthesize(parameters), expected)
    assert torch.equal(front_end.synthesize(parameters), expected.bfloat16())
    half = front_end.analyze(audio.bfloat16())
    assert torch.equal(half, front_end.analyze(audio.bfloat16().float()).bfloat16())


def test_noise_made_in_inference_mode_serves_training():
    _excitation.cache_clear()
    front_end = NoiseExcitedFrontEnd(4)
    parameters = torch.randn(1, 8, 10)
    with torch.inference_mode():
        expected = front_end.synthesize(parameters)
    audio = front_end.synthesize(parameters.requires_grad_())
    audio.square().sum().backward()
    assert torch.equal(audio, expected)
    assert parameters.grad.abs().min() > 0


def test_a_checkpoint_holds_nothing_of_it():
    assert not NoiseExcitedFrontEnd(4, SCALES).state_dict()


@pytest.mark.parametrize("scales", [[], [1.0, 0.0], [-1.0], [math.nan], [math.inf]])
def test_scales_that_are_not_positive_numbers_are_refused(scales):
    with pytest.raises(ValueError, match="`scales` must be positive numbers"):
        NoiseExcitedFrontEnd(4, scales)


def test_odd_numbers_of_bands_are_refused():
    with pytest.raises(ValueError, match="`bands`.*even.*5"):
        NoiseExcitedFrontEnd(5)


@pytest.mark.parametrize("front_end", [MultiBandFrontEnd(4, SCALES, 0.5), NoiseExcitedFrontEnd(4, SCALES)])
def test_reach_is_the_number_of_blocks_that_a_feature_looks_at(front_end):
    audio = torch.randn(1, 1, 9 * 4).requires_grad_()
    (gradient,) = torch.autograd.grad(front_end.analyze(audio)[..., 4].square().sum(), audio)
    blocks = gradient.reshape(9, 4).abs().amax(1).nonzero().flatten()
    assert blocks.min() == 4 - front_end.reach
    assert blocks.max() == 4 + front_end.reach
