"""The circular path and its velocity."""

import math

import pytest
import torch

from star_hf.flow import rotate, v_target


def test_path_starts_at_latents_and_ends_at_noise():
    noise, latents = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    zero = torch.zeros(3, dtype=torch.float64)
    assert torch.equal(rotate(noise, latents, zero), latents)
    torch.testing.assert_close(rotate(noise, latents, zero + math.pi / 2), noise)


def test_the_target_is_the_derivative_of_the_path():
    noise, latents = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    angle = torch.tensor([0.1, 0.7, 1.4], dtype=torch.float64)
    step = 1e-6
    derivative = (rotate(noise, latents, angle + step) - rotate(noise, latents, angle - step)) / (2 * step)
    torch.testing.assert_close(v_target(noise, latents, angle), derivative, atol=1e-8, rtol=0)


def test_point_and_target_give_latents_and_noise_back():
    noise, latents = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    angle = torch.tensor([0.1, 0.7, 1.4], dtype=torch.float64)
    point, target = rotate(noise, latents, angle), v_target(noise, latents, angle)
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    torch.testing.assert_close(cosine * point - sine * target, latents)
    torch.testing.assert_close(sine * point + cosine * target, noise)


def test_unit_variance_stays():
    noise, latents = torch.randn(2, 1, 200_000)
    assert abs(float(rotate(noise, latents, torch.tensor([0.6])).var()) - 1) < 0.02


@pytest.mark.parametrize("function", [rotate, v_target])
def test_shapes_that_would_broadcast_are_refused(function):
    x = torch.randn(2, 5, 4)
    with pytest.raises(ValueError, match="latents"):
        function(x, x.transpose(1, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="angle"):
        function(x, x, torch.zeros(3))
