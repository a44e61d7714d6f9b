"""The stereo correlation loss on stereo images whose correlation is known."""

from __future__ import annotations

import math

import pytest
import torch

from star_hf.losses.stereo import stereo_correlation_loss

SAMPLES = 4096
# Whole periods of the FFT of 2048: in the bands of bins 64-127 and 512-1024.
LOW, HIGH = 100 / 2048, 700 / 2048


def tone(frequency: float, phase: float = 0.0) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency * torch.arange(SAMPLES, dtype=torch.float64) + phase)


def stereo(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return torch.stack([left, right])[None]


def distance(prediction, target, **options) -> float:
    return stereo_correlation_loss(prediction, target, **options).item()


@pytest.mark.parametrize(
    ("phase", "target_phase"), [(0.0, math.pi), (0.0, math.pi / 2), (0.3, 1.9), (-0.4, 0.4), (2.0, 2.0)]
)
def test_tones_with_a_phase_between_the_channels(phase, target_phase):
    """ρ is the cosine of the phase."""
    expected = abs(math.cos(phase) - math.cos(target_phase))
    prediction, target = (stereo(tone(LOW), tone(LOW, p)) for p in (phase, target_phase))
    assert distance(prediction, target) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_a_tone_common_to_both_channels_and_one_in_quadrature(share):
    """l = r = s for the share a of the power, quadrature for the rest: ρ = a. The target is mono."""
    common, rest = math.sqrt(share) * tone(70 / 2048), math.sqrt(1 - share)
    prediction = stereo(common + rest * tone(120 / 2048), common + rest * tone(120 / 2048, math.pi / 2))
    assert distance(prediction, stereo(tone(LOW), tone(LOW))) == pytest.approx(1 - share, abs=1e-6)


def test_bands_are_judged_apart_and_weighted_by_the_targets_amplitude():
    """Amplitude 1 in a band that is wrong by 2, amplitude 3 in one that is right: 2 · 1 / (1 + 3)."""
    low, high = tone(LOW), 3 * tone(HIGH)
    assert distance(stereo(low + high, high - low), stereo(low + high, low + high)) == pytest.approx(0.5)


def test_frames_are_judged_apart():
    """Wrong in the second of two frames, which has three times the amplitude: 2 · 3 / (1 + 3)."""
    sides = torch.cat([torch.ones(2048), 3 * torch.ones(2048)]).double() * tone(LOW)
    opposite = torch.cat([torch.ones(2048), -torch.ones(2048)]).double() * sides
    assert distance(stereo(sides, opposite), stereo(sides, sides), hop_ratio=1.0) == pytest.approx(1.5)


def test_equal_images_have_no_distance():
    waveform = torch.randn(2, 2, SAMPLES, requires_grad=True)
    loss = stereo_correlation_loss(waveform, waveform.detach().clone())
    assert loss == 0


def test_gain_and_panning_change_nothing():
    prediction, target = torch.randn(2, 3, 2, SAMPLES, dtype=torch.float64)
    expected = stereo_correlation_loss(prediction, target)
    panned = prediction * torch.tensor([0.2, 3.0])[:, None]
    torch.testing.assert_close(stereo_correlation_loss(panned, target), expected)
    torch.testing.assert_close(stereo_correlation_loss(5 * prediction, 0.1 * target), expected)


def test_swapped_channels_are_the_same_image():
    prediction, target = torch.randn(2, 3, 2, SAMPLES, dtype=torch.float64)
    expected = stereo_correlation_loss(prediction, target)
    torch.testing.assert_close(stereo_correlation_loss(prediction.flip(1), target), expected)


@pytest.mark.parametrize(("leakage", "correlation"), [(1.0, 1.0), (2e-3, 1.0), (1e-4, 0.1), (0.0, 0.0)])
def test_correlation_fades_where_one_channel_is_all_but_silent(leakage, correlation):
    target = stereo(tone(LOW), 0 * tone(LOW))
    prediction = stereo(tone(LOW), leakage * tone(LOW))
    assert distance(prediction, target) == pytest.approx(correlation, rel=1e-5)


@pytest.mark.parametrize("silent", ["prediction", "target", "both", "one channel of each"])
def test_silence_is_finite(silent):
    prediction, target = torch.randn(2, 2, 2, SAMPLES)
    if silent in ("prediction", "both"):
        prediction.zero_()
    if silent in ("target", "both"):
        target.zero_()
    if silent == "one channel of each":
        prediction[:, 1], target[:, 0] = 0, 0
    prediction.requires_grad_()
    loss = stereo_correlation_loss(prediction, target)
    loss.backward()
    assert loss.isfinite() and prediction.grad.isfinite().all()
    if silent in ("target", "both", "one channel of each"):
        assert loss == 0


def test_gradient_check():
    prediction, target = torch.randn(2, 1, 2, 40, dtype=torch.float64)
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: stereo_correlation_loss(x, target, fft_size=16), prediction)


def test_descent_narrows_a_wide_image():
    mid = torch.randn(2, 1, SAMPLES)
    target = mid.expand(-1, 2, -1)
    prediction = (target + 0.7 * torch.randn(2, 2, SAMPLES)).requires_grad_()
    optimizer = torch.optim.Adam([prediction], lr=0.03)
    first = distance(prediction, target)
    for _ in range(30):
        optimizer.zero_grad()
        loss = stereo_correlation_loss(prediction, target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first


def test_the_target_gets_no_gradient_and_a_batch_is_the_mean_of_its_clips():
    prediction, target = torch.randn(2, 3, 2, SAMPLES).requires_grad_().unbind()
    target.retain_grad()
    prediction.retain_grad()
    loss = stereo_correlation_loss(prediction, target)
    loss.backward()
    assert target.grad is None and prediction.grad.any()
    alone = [stereo_correlation_loss(p[None], t[None]) for p, t in zip(prediction, target, strict=True)]
    torch.testing.assert_close(loss, torch.stack(alone).mean())


def test_half_precision_is_compared_in_float32():
    prediction, target = torch.randn(2, 2, 2, SAMPLES)
    half = prediction.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = stereo_correlation_loss(half, target)
    loss.backward()
    assert (loss.dtype, half.grad.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(loss, stereo_correlation_loss(half.detach().float(), target))


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((1, 1, 4096),) * 2, {}, r"2 channels.*\(1, 1, 4096\)"),
        (((2, 4096),) * 2, {}, "`prediction` and `target`"),
        (((1, 2, 4096), (1, 2, 4095)), {}, "`prediction` and `target`"),
        (((1, 2, 2047),) * 2, {}, "2047 samples.*`fft_size` 2048"),
        (((1, 2, 4096),) * 2, {"fft_size": 4}, "`fft_size`.*4"),
        (((1, 2, 4096),) * 2, {"hop_ratio": 0.0}, "`hop_ratio`.*0.0"),
        (((1, 2, 4096),) * 2, {"hop_ratio": 1.5}, "`hop_ratio`.*1.5"),
    ],
)
def test_other_shapes_and_settings_are_refused(shapes, options, message):
    with pytest.raises(ValueError, match=message):
        stereo_correlation_loss(*(torch.zeros(shape) for shape in shapes), **options)
