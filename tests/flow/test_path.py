"""The path from noise to latents, its times and its loss."""

import math

import pytest
import torch

from star_hf.flow import (
    flow_matching_loss,
    interpolate,
    logit_normal_times,
    sample_times,
    velocity_target,
)


def test_path_starts_at_noise_and_ends_at_latents():
    noise, latents = torch.randn(2, 3, 5, 4)
    assert torch.equal(interpolate(noise, latents, torch.zeros(3)), noise)
    assert torch.equal(interpolate(noise, latents, torch.ones(3)), latents)


def test_each_row_has_its_own_time():
    noise, latents = torch.zeros(2, 5, 4), torch.ones(2, 5, 4)
    z = interpolate(noise, latents, torch.tensor([0.25, 0.75]))
    assert torch.equal(z[0], torch.full((5, 4), 0.25)) and torch.equal(z[1], torch.full((5, 4), 0.75))


def test_velocity_is_the_derivative_of_the_path():
    noise, latents = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    t = torch.rand(3, dtype=torch.float64)
    step = 1e-6
    derivative = (interpolate(noise, latents, t + step) - interpolate(noise, latents, t - step)) / (2 * step)
    torch.testing.assert_close(velocity_target(noise, latents), derivative, atol=1e-8, rtol=0)


def test_times_are_logit_normal():
    t = sample_times(100_000, mean=0.5, std=2.0, generator=torch.Generator().manual_seed(0))
    logits = torch.logit(t)
    assert t.dtype == torch.float32 and t.shape == (100_000,)
    assert math.isclose(logits.mean(), 0.5, abs_tol=0.03)
    assert math.isclose(logits.std(), 2.0, abs_tol=0.03)


def test_times_follow_the_generator():
    first, second = (sample_times(4, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


def test_quantiles_of_the_normal_become_quantiles_of_the_times():
    quantiles = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    times = logit_normal_times(torch.special.ndtri(quantiles), mean=0.5, std=2.0)
    drawn = sample_times(200_000, mean=0.5, std=2.0, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(times, drawn.quantile(quantiles), atol=5e-3, rtol=0)


@pytest.mark.parametrize(("arguments", "name"), [((0,), "batch"), ((2, 0.0, -1.0), "std")])
def test_times_refuse_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=name):
        sample_times(*arguments)


def test_loss_without_a_mask_is_the_mean_squared_error():
    prediction, target = torch.randn(2, 3, 5, 4)
    torch.testing.assert_close(
        flow_matching_loss(prediction, target), torch.nn.functional.mse_loss(prediction, target)
    )


def test_masked_loss_is_the_loss_of_the_real_frames_only():
    prediction, target = torch.randn(2, 2, 5, 4)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    prediction[1, 2:] = 1e6
    expected = torch.cat([(prediction - target)[0], (prediction - target)[1, :2]]).square().mean()
    torch.testing.assert_close(flow_matching_loss(prediction, target, mask), expected)


def test_loss_of_each_row_is_the_loss_of_the_row_alone():
    prediction, target = torch.randn(2, 3, 5, 4)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False], [False] * 5])
    rows = flow_matching_loss(prediction, target, mask, reduction="none")
    alone = [flow_matching_loss(prediction[i : i + 1], target[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(rows, torch.stack(alone))
    assert rows[2] == 0
    whole = flow_matching_loss(prediction, target, mask)
    torch.testing.assert_close((rows * mask.sum(dim=1)).sum() / mask.sum(), whole)
    with pytest.raises(ValueError, match="reduction"):
        flow_matching_loss(prediction, target, mask, reduction="sum")


def test_loss_of_half_precision_is_computed_in_float32():
    prediction = torch.full((1, 4, 4), 300.0, dtype=torch.float16)
    loss = flow_matching_loss(prediction, torch.zeros_like(prediction))
    assert loss.dtype == torch.float32 and loss == 90_000


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: interpolate(x, x.transpose(1, 2), torch.zeros(2)), "latents"),
        (lambda x: interpolate(x, x, torch.zeros(3)), "`t`"),
        (lambda x: velocity_target(x, x[:1]), "noise"),
        (lambda x: flow_matching_loss(x, x.transpose(1, 2)), "prediction"),
        (lambda x: flow_matching_loss(x, x, torch.ones(2, 4)), "mask"),
    ],
)
def test_shapes_that_would_broadcast_are_refused(call, name):
    with pytest.raises(ValueError, match=name):
        call(torch.randn(2, 5, 4))
