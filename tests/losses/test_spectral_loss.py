"""`MultiResolutionSTFTLoss` against automatic differentiation of its definition, and against auraloss."""

from __future__ import annotations

import itertools
import math

import auraloss
import pytest
import torch

from star_hf import MultiResolutionSTFTLoss
from star_hf.losses.weighting import a_weighting_gain, k_weighting_gain

SIZES = (64, 16, 32)


def definition(prediction, target, loss: MultiResolutionSTFTLoss, sampling_rate: int = 44100) -> torch.Tensor:
    """The loss as its documentation states it, written with torch.stft and automatic differentiation."""

    def magnitudes(signal, size):
        window = torch.hann_window(size).to(signal)
        spectrum = torch.stft(signal, size, size // loss.overlap, window=window, return_complex=True)
        # Gains are in float32, as the loss keeps them.
        frequency = torch.linspace(0, sampling_rate / 2, size // 2 + 1)
        if loss.a_weighting:
            spectrum = spectrum * a_weighting_gain(frequency).to(signal)[:, None]
        if loss.k_weighting:
            spectrum = spectrum * k_weighting_gain(frequency, sampling_rate).to(signal)[:, None]
        return (spectrum.real**2 + spectrum.imag**2).clamp(min=1e-8).sqrt()

    def distance(p, t, size):
        p, t = magnitudes(p, size), magnitudes(t, size)
        norms = torch.linalg.vector_norm(p), torch.linalg.vector_norm(t)
        convergence = torch.linalg.vector_norm(t - p) / torch.maximum(*norms).detach()
        log_magnitude = (t.log() - p.log()).abs().mean()
        return loss.convergence_weight * convergence + loss.log_magnitude_weight * log_magnitude

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


def assert_equal_to_definition(prediction, target, loss, **options):
    prediction = prediction.clone().requires_grad_()
    value, expected = loss(prediction, target), definition(prediction, target, loss, **options)
    (gradient,) = torch.autograd.grad(value, prediction)
    (expected_gradient,) = torch.autograd.grad(expected, prediction)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    scale = expected_gradient.abs().max().item()
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-10 * scale)


def waveforms(channels: int = 2, batch: int = 2, samples: int = 150, dtype=torch.float64):
    return torch.randn(2, batch, channels, samples, dtype=dtype)


@pytest.mark.parametrize(
    ("channels", "hop_ratio", "a_weighting"), itertools.product((1, 2), (0.25, 0.5, 1.0), (False, True))
)
def test_value_and_gradient_are_the_definitions(channels, hop_ratio, a_weighting):
    loss = MultiResolutionSTFTLoss(SIZES, hop_ratio=hop_ratio, a_weighting=a_weighting)
    assert_equal_to_definition(*waveforms(channels), loss)


@pytest.mark.parametrize(
    "weights",
    [
        {"sum_difference_weight": 0.0},
        {"left_right_weight": 0.0},
        {"convergence_weight": 0.0},
        {"log_magnitude_weight": 0.0},
        {
            "sum_difference_weight": 0.3,
            "left_right_weight": 0.7,
            "convergence_weight": 1.9,
            "log_magnitude_weight": 0.4,
        },
    ],
)
def test_weights_act_on_their_terms(weights):
    assert_equal_to_definition(*waveforms(), MultiResolutionSTFTLoss(SIZES, **weights))


@pytest.mark.parametrize("curve", ["a_weighting", "k_weighting"])
def test_hops_of_a_third_and_another_sampling_rate(curve):
    loss = MultiResolutionSTFTLoss((48, 12), hop_ratio=1 / 3, sampling_rate=8000, **{curve: True})
    assert_equal_to_definition(*waveforms(), loss, sampling_rate=8000)


def test_two_curves_at_once_are_refused():
    with pytest.raises(ValueError, match="`a_weighting` and `k_weighting`"):
        MultiResolutionSTFTLoss(SIZES, a_weighting=True, k_weighting=True)


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_mid_side_left_and_right_alike(weight):
    """Twice the weight on the mean of sum and difference, as the defaults have it: εar-VAE's magnitudes."""
    prediction, target = waveforms()
    loss = MultiResolutionSTFTLoss(SIZES, sum_difference_weight=2 * weight, left_right_weight=weight)
    mono = MultiResolutionSTFTLoss(SIZES)
    signals = [
        [(left + right)[:, None], (left - right)[:, None], left[:, None], right[:, None]]
        for left, right in (prediction.unbind(1), target.unbind(1))
    ]
    expected = weight * sum(mono(p, t) for p, t in zip(*signals, strict=True))
    torch.testing.assert_close(loss(prediction, target), expected)
    if weight == 0.5:
        torch.testing.assert_close(MultiResolutionSTFTLoss(SIZES)(prediction, target), expected)


@pytest.mark.parametrize("samples", [33, 64, 100])
def test_any_length_beyond_half_a_window(samples):
    assert_equal_to_definition(*waveforms(samples=samples), MultiResolutionSTFTLoss(SIZES))


def test_default_resolutions():
    loss = MultiResolutionSTFTLoss()
    assert loss.fft_sizes == (2048, 1024, 512, 256, 128, 64, 32)
    assert_equal_to_definition(*waveforms(batch=1, samples=3000), loss)


@pytest.mark.parametrize("silent", ["target", "prediction", "difference"])
def test_silence(silent):
    """Bins below the floor get no gradient; a silent difference is what a mono recording has."""
    prediction, target = waveforms()
    if silent == "target":
        target.zero_()
    elif silent == "prediction":
        prediction.zero_()
    else:
        target[:, 1] = target[:, 0]
    assert_equal_to_definition(prediction, target, MultiResolutionSTFTLoss(SIZES))


@pytest.mark.parametrize("a_weighting", [False, True])
def test_gradcheck_where_the_loss_is_smooth(a_weighting):
    """With a target loud enough to be the norm, which the gradient takes as a constant."""
    prediction, target = waveforms(batch=1, samples=40)
    loss = MultiResolutionSTFTLoss((16, 8), a_weighting=a_weighting, log_magnitude_weight=0.7)
    function = lambda p: loss(p, 5 * target)  # noqa: E731
    assert torch.autograd.gradcheck(function, prediction.requires_grad_(), eps=1e-7, atol=1e-6)


def test_equal_waveforms_have_no_distance_and_no_gradient():
    waveform = waveforms()[0].requires_grad_()
    loss = MultiResolutionSTFTLoss(SIZES)(waveform, waveform.detach().clone())
    loss.backward()
    assert loss == 0
    assert not waveform.grad.any()


@pytest.mark.parametrize("level", [1e-3, 1.0, 100.0])
def test_a_silent_target_keeps_the_convergence_bounded(level):
    prediction = level * waveforms()[0]
    loss = MultiResolutionSTFTLoss(SIZES, log_magnitude_weight=0.0, left_right_weight=0.0)
    assert 0.9 < loss(prediction, torch.zeros_like(prediction)) <= math.sqrt(2)


def test_the_floor_bounds_the_log_magnitude_distance_of_silence():
    prediction = waveforms(channels=1)[0]
    loss = MultiResolutionSTFTLoss((32,), convergence_weight=0.0)
    # No bin is louder than the sum of the window times the peak, and the floor is 1e-4.
    loudest = torch.hann_window(32).sum() * prediction.abs().max()
    assert 0 < loss(prediction, torch.zeros_like(prediction)) < math.log(loudest / 1e-4)


def test_log_magnitude_distance_of_a_gain_is_its_logarithm():
    target = waveforms()[0]
    loss = MultiResolutionSTFTLoss(SIZES, convergence_weight=0.0, left_right_weight=0.0)
    torch.testing.assert_close(loss(3 * target, target).item(), math.log(3))


def test_convergence_of_a_gain_is_relative_to_the_louder_signal():
    target = waveforms()[0]
    loss = MultiResolutionSTFTLoss(SIZES, log_magnitude_weight=0.0, left_right_weight=0.0)
    torch.testing.assert_close(loss(4 * target, target).item(), 0.75, rtol=1e-6, atol=0)
    torch.testing.assert_close(loss(target / 4, target).item(), 0.75, rtol=1e-6, atol=0)


@pytest.mark.parametrize("channels", [1, 2])
def test_log_magnitude_term_is_auralosss(channels):
    prediction, target = waveforms(channels, samples=600, dtype=torch.float32)
    sizes = [256, 64]
    ours = MultiResolutionSTFTLoss(
        sizes, sum_difference_weight=0.0, left_right_weight=0.5, convergence_weight=0.0
    )
    theirs = auraloss.freq.MultiResolutionSTFTLoss(sizes, [size // 4 for size in sizes], sizes, w_sc=0.0)
    torch.testing.assert_close(ours(prediction, target), theirs(prediction, target))


def test_the_loss_of_a_batch_is_the_mean_of_its_clips():
    prediction, target = waveforms(batch=3)
    prediction[1] *= 100
    loss = MultiResolutionSTFTLoss(SIZES)
    alone = [loss(p[None], t[None]) for p, t in zip(prediction, target, strict=True)]
    torch.testing.assert_close(loss(prediction, target), torch.stack(alone).mean())


def test_the_whole_batch_at_once_equals_clip_by_clip():
    """What a GPU does in place of the loop over clips."""
    prediction, target = waveforms(batch=3)
    loss = MultiResolutionSTFTLoss(SIZES, a_weighting=True)
    value, gradient = loss.clip_loss_and_gradient(prediction, target, needs_gradient=True)
    prediction.requires_grad_()
    (expected,) = torch.autograd.grad(loss(prediction, target), prediction)
    torch.testing.assert_close(value / 3, loss(prediction, target))
    torch.testing.assert_close(gradient / 3, expected)


def test_inputs_are_left_as_they_were_and_the_target_gets_no_gradient():
    prediction, target = waveforms().requires_grad_().unbind()
    before = prediction.detach().clone(), target.detach().clone()
    target.retain_grad()
    MultiResolutionSTFTLoss(SIZES)(prediction, target).backward()
    assert torch.equal(prediction, before[0]) and torch.equal(target, before[1])
    assert target.grad is None


def test_no_gradient_is_computed_where_none_is_asked_for():
    prediction, target = waveforms()
    loss = MultiResolutionSTFTLoss(SIZES)
    expected = loss(prediction.clone().requires_grad_(), target)
    with torch.no_grad():
        value = loss(prediction, target)
    assert not value.requires_grad
    torch.testing.assert_close(value, expected.detach())


def test_second_derivatives_are_refused():
    prediction, target = waveforms()
    prediction.requires_grad_()
    value = MultiResolutionSTFTLoss(SIZES)(prediction, target).square()
    (gradient,) = torch.autograd.grad(value, prediction, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_half_precision_is_compared_in_float32_and_gets_its_gradient_back():
    prediction, target = waveforms(dtype=torch.float32)
    loss = MultiResolutionSTFTLoss(SIZES)
    half = prediction.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(half, target)
    value.backward()
    exact = half.detach().float().requires_grad_()
    expected = loss(exact, target)
    expected.backward()
    assert (value.dtype, half.grad.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(half.grad.float(), exact.grad, rtol=1e-2, atol=1e-6)


def test_the_transforms_tables_are_no_part_of_a_checkpoint():
    assert not MultiResolutionSTFTLoss(SIZES, a_weighting=True).state_dict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hop_ratio": 0.3}, "`hop_ratio`.*0.3"),
        ({"hop_ratio": 0.0}, "`hop_ratio`.*0.0"),
        ({"hop_ratio": 2.0}, "`hop_ratio`.*2.0"),
        ({"hop_ratio": math.nan}, "`hop_ratio`.*nan"),
        ({"fft_sizes": ()}, "`fft_sizes`"),
        ({"fft_sizes": (64, 6)}, r"`fft_sizes`.*multiples of 4.*\[64, 6\]"),
        ({"fft_sizes": (15,), "hop_ratio": 1 / 3}, "`fft_sizes`.*even.*15"),
        ({"fft_sizes": (0,)}, "`fft_sizes`"),
    ],
)
def test_resolutions_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiResolutionSTFTLoss(**arguments)


@pytest.mark.parametrize(
    ("prediction", "target"), [((1, 2, 99), (1, 2, 100)), ((2, 100), (2, 100)), ((1, 3, 100), (1, 3, 100))]
)
def test_waveforms_of_other_shapes_are_refused(prediction, target):
    with pytest.raises(ValueError, match=r"`prediction` and `target`.*\(batch, 1 or 2 channels, samples\)"):
        MultiResolutionSTFTLoss(SIZES)(torch.zeros(prediction), torch.zeros(target))


def test_clips_too_short_for_the_longest_window_are_refused():
    waveform = torch.zeros(1, 1, 32)
    with pytest.raises(ValueError, match="32 samples.*STFT of 64.*`fft_sizes`"):
        MultiResolutionSTFTLoss(SIZES)(waveform, waveform)
