"""`PhaseLoss` against sinusoids and delays worked by hand, and against its definition's own gradient."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from star_hf.losses.phase import PhaseLoss

SIZES = (64, 16, 32)
ONLY_FREQUENCY = {"group_delay_weight": 0.0}
ONLY_DELAY = {"instantaneous_frequency_weight": 0.0}


def waveforms(channels: int = 2, batch: int = 2, samples: int = 150, dtype=torch.float64):
    return torch.randn(2, batch, channels, samples, dtype=dtype)


def definition(prediction, target, loss: PhaseLoss) -> torch.Tensor:
    """The loss as its documentation states it, written with torch.stft and automatic differentiation."""

    def spectrum(signal, size):
        window = torch.hann_window(size).to(signal)
        return torch.stft(signal, size, size // loss.overlap, window=window, return_complex=True)

    def term(advance, target_advance):
        size, target_size = advance.abs(), target_advance.abs()
        weight = target_size ** (loss.magnitude_exponent / 2) * (target_size > 1e-8)
        if not weight.any():
            return torch.zeros((), dtype=torch.float64)
        floor = (0.01 * (size.sum() / target_size.sum()) * target_size).clamp(min=1e-8).detach()
        phasor = advance / torch.where(size > floor, size, floor)
        distance = (phasor - target_advance / target_size.clamp(min=1e-8)).abs().square() / 2
        return (weight * distance).sum() / weight.sum()

    def distance(p, t, size):
        p, t = spectrum(p, size), spectrum(t, size)  # (bins, frames)
        frequency = term(p[:, 1:] * p[:, :-1].conj(), t[:, 1:] * t[:, :-1].conj())
        delay = term(p[1:] * p[:-1].conj(), t[1:] * t[:-1].conj())
        return loss.instantaneous_frequency_weight * frequency + loss.group_delay_weight * delay

    def clip_distance(p, t, size):
        if len(p) == 1:
            return distance(p[0], t[0], size)
        (left, right), (target_left, target_right) = p, t
        pair = distance(left + right, target_left + target_right, size)
        pair = pair + distance(left - right, target_left - target_right, size)
        sides = distance(left, target_left, size) + distance(right, target_right, size)
        return loss.sum_difference_weight * pair / 2 + loss.left_right_weight * sides

    values = [
        clip_distance(p, t, size) for p, t in zip(prediction, target, strict=True) for size in loss.fft_sizes
    ]
    return torch.stack(values).mean()


def assert_equal_to_definition(prediction, target, loss):
    prediction = prediction.clone().requires_grad_()
    value, expected = loss(prediction, target), definition(prediction, target, loss)
    (gradient,) = torch.autograd.grad(value, prediction)
    (expected_gradient,) = torch.autograd.grad(expected, prediction)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    scale = expected_gradient.abs().max().item()
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-9 * scale)


@pytest.mark.parametrize(
    ("channels", "hop_ratio", "exponent"), itertools.product((1, 2), (0.25, 0.5, 1.0), (0.0, 1.0, 2.0))
)
def test_value_and_gradient_are_the_definitions(channels, hop_ratio, exponent):
    loss = PhaseLoss(SIZES, hop_ratio, magnitude_exponent=exponent)
    assert_equal_to_definition(*waveforms(channels), loss)


@pytest.mark.parametrize(
    "weights",
    [
        ONLY_FREQUENCY,
        ONLY_DELAY,
        {"sum_difference_weight": 1.0},
        {"sum_difference_weight": 1.0, "left_right_weight": 0.0},
        {"instantaneous_frequency_weight": 0.3, "group_delay_weight": 1.7, "sum_difference_weight": 0.2},
    ],
)
def test_weights_act_on_their_terms(weights):
    assert_equal_to_definition(*waveforms(), PhaseLoss(SIZES, **weights))


def test_gradient_check():
    # Close to the target: no bin is below the floor, which is a constant to the gradient.
    target = torch.randn(1, 2, 40, dtype=torch.float64)
    prediction = (1.5 * target + 1e-3 * torch.randn_like(target)).requires_grad_()
    loss = PhaseLoss((16, 8), sum_difference_weight=1.0)
    assert torch.autograd.gradcheck(lambda x: 1e3 * loss(x, target), prediction)


def cosine(frequency: float, samples: int) -> torch.Tensor:
    """Even about both ends if 2 · frequency · (samples - 1) is whole: the STFT's reflection continues it."""
    return torch.cos(2 * math.pi * frequency * torch.arange(samples, dtype=torch.float64))[None, None]


@pytest.mark.parametrize("half_periods", [1, 4, -6, 7])
def test_sinusoids_a_frequency_apart(half_periods):
    """The phase advances by 2π Δf · hop more from frame to frame, less than a bin apart here."""
    size, hop, samples = 256, 64, 1025
    frequency, other = 524 / 2048, (524 + half_periods) / 2048
    # The higher the exponent, the less the far bins count, into which negative frequencies leak.
    loss = PhaseLoss((size,), magnitude_exponent=4.0, **ONLY_FREQUENCY)
    expected = 1 - math.cos(2 * math.pi * (other - frequency) * hop)
    value = loss(cosine(other, samples), cosine(frequency, samples)).item()
    assert value == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("delay", [1, 5, -3, 16])
def test_a_delay_in_samples(delay):
    """An impulse d samples later turns the phase by 2π d / size more from bin to bin."""
    size = 64
    target, prediction = torch.zeros(2, 1, 1, 4 * size, dtype=torch.float64)
    target[..., 2 * size], prediction[..., 2 * size + delay] = 1, 1
    value = PhaseLoss((size,), hop_ratio=1.0, **ONLY_DELAY)(prediction, target).item()
    assert value == pytest.approx(1 - math.cos(2 * math.pi * delay / size), rel=1e-9)


def test_equal_signals_have_no_distance_and_no_gradient():
    target = waveforms()[0]
    prediction = target.clone().requires_grad_()
    value = PhaseLoss(SIZES, sum_difference_weight=1.0)(prediction, target)
    (gradient,) = torch.autograd.grad(value, prediction)
    assert value.item() < 1e-25 and gradient.abs().max() < 1e-12


@pytest.mark.parametrize("gain", [1e-2, 0.3, 7.0, -1.0])
def test_gain_and_polarity_of_the_prediction_change_nothing(gain):
    prediction, target = waveforms()
    loss = PhaseLoss(SIZES)
    torch.testing.assert_close(loss(gain * prediction, target), loss(prediction, target), rtol=1e-4, atol=0)
    assert loss(gain * target, target) < 1e-12


def test_unrelated_noise_is_at_one():
    """The mean of 1 - cos over all angles, where frames do not overlap; half of each of two channels."""
    loss = PhaseLoss((256,), hop_ratio=1.0, magnitude_exponent=0.0, **ONLY_FREQUENCY)
    assert loss(*waveforms(samples=100_000)).item() == pytest.approx(1.0, abs=0.02)


def test_a_phase_offset_of_every_bin_is_not_seen():
    """A quarter period; the tone's ends are soft, where the offset turns into the reflection's."""
    n = torch.arange(4096, dtype=torch.float64)
    envelope = torch.hann_window(4096, dtype=torch.float64)
    target, turned, lower = (
        (envelope * torch.cos(frequency * n + phase))[None, None]
        for frequency, phase in ((0.8, 0.0), (0.8, math.pi / 2), (0.79, 0.0))
    )
    loss = PhaseLoss((256,))
    assert loss(turned, target) < 1e-3 and loss(lower, target) > 0.1


def test_near_silent_bins_do_not_count():
    target = cosine(520 / 2048, 1025)
    noise = 1e-5 * torch.randn_like(target)
    assert PhaseLoss((256,))(target + noise, target).item() < 1e-2
    assert PhaseLoss((256,), magnitude_exponent=0.0)(target + noise, target).item() > 0.5


@pytest.mark.parametrize("silent", ["prediction", "target", "both", "target's end"])
def test_silence(silent):
    prediction, target = waveforms()
    if silent in ("prediction", "both"):
        prediction.zero_()
    if silent in ("target", "both"):
        target.zero_()
    if silent == "target's end":
        target[..., 40:] = 0
    loss = PhaseLoss(SIZES, sum_difference_weight=1.0)
    prediction.requires_grad_()
    value = loss(prediction, target)
    (gradient,) = torch.autograd.grad(value, prediction)
    assert gradient.isfinite().all()
    if silent in ("target", "both"):
        assert value == 0 and not gradient.any()
    else:
        torch.testing.assert_close(value, definition(prediction, target, loss))


def test_gradient_of_a_vanishing_prediction_stays_bounded():
    prediction, target = waveforms(dtype=torch.float32)
    for size in (1e-3, 1e-6, 1e-12, 1e-30):
        quiet = (size * prediction).requires_grad_()
        value = PhaseLoss(SIZES)(quiet, target)
        (gradient,) = torch.autograd.grad(value, quiet)
        assert value.isfinite() and gradient.isfinite().all()
        assert gradient.abs().max() < 2e3


def test_descent_restores_the_phase():
    target = torch.randn(1, 1, 300, dtype=torch.float64)
    prediction = (target + 0.5 * torch.randn_like(target)).requires_grad_()
    loss = PhaseLoss((32, 16))
    optimizer = torch.optim.Adam([prediction], lr=0.02)
    first = loss(prediction, target).item()
    for _ in range(150):
        optimizer.zero_grad()
        value = loss(prediction, target)
        value.backward()
        optimizer.step()
    assert value.item() < 0.1 * first


def test_the_whole_batch_at_once_equals_clip_by_clip():
    """What a GPU does in place of the loop over clips."""
    prediction, target = waveforms(batch=3)
    prediction[1] *= 100
    loss = PhaseLoss(SIZES, sum_difference_weight=1.0)
    value, gradient = loss.clip_loss_and_gradient(prediction, target, needs_gradient=True)
    prediction.requires_grad_()
    (expected,) = torch.autograd.grad(loss(prediction, target), prediction)
    torch.testing.assert_close(value / 3, loss(prediction, target))
    torch.testing.assert_close(gradient / 3, expected)
    with torch.no_grad():
        torch.testing.assert_close(value / 3, loss(prediction, target))


def test_half_precision_is_compared_in_float32():
    prediction, target = waveforms(dtype=torch.float32)
    half = prediction.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = PhaseLoss(SIZES)(half, target)
    value.backward()
    assert (value.dtype, half.grad.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(value, PhaseLoss(SIZES)(half.detach().float(), target))


def test_a_single_frame_has_no_frequency_to_compare():
    prediction, target = waveforms(samples=40)
    assert PhaseLoss((64,), hop_ratio=1.0, **ONLY_FREQUENCY)(prediction, target) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hop_ratio": 0.3}, "`hop_ratio`.*0.3"),
        ({"fft_sizes": ()}, "`fft_sizes`"),
        ({"magnitude_exponent": -1.0}, "`magnitude_exponent`.*-1.0"),
        ({"magnitude_exponent": math.nan}, "`magnitude_exponent`.*nan"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PhaseLoss(**arguments)


def test_waveforms_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"`prediction` and `target`.*\(1, 2, 99\) and \(1, 2, 100\)"):
        PhaseLoss(SIZES)(torch.zeros(1, 2, 99), torch.zeros(1, 2, 100))
