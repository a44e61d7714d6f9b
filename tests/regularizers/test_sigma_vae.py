"""The noise of a σ-VAE: its equation, its moments, and that no encoder can make it vanish."""

from __future__ import annotations

import pytest
import torch

from star_hf.regularizers.sigma_vae import sigma_noise


def test_the_noise_is_the_product_of_the_numbers_that_it_asks_for():
    scales = torch.tensor([2.0, -0.5]).view(2, 1, 1)
    noise = torch.arange(12.0).view(2, 2, 3)
    asked = []

    def normal(*shape):
        asked.append(shape)
        return scales if shape == (1, 1) else noise

    expected = torch.stack([0.5 * 2.0 * noise[0], 0.5 * -0.5 * noise[1]])
    assert torch.equal(sigma_noise(torch.zeros(2, 2, 3), 0.5, normal), expected)
    assert asked == [(1, 1), (2, 3)]


def test_one_scale_for_each_example_of_a_normal_distribution():
    draws = 20000
    noise = sigma_noise(torch.zeros(draws, 4, 25), 0.3, lambda *shape: torch.randn(draws, *shape))
    assert noise.square().mean().item() == pytest.approx(0.09, rel=0.05)
    within = noise.square().mean(dim=(1, 2))
    # E[s²] = 1 and E[s⁴] = 3 of a normal s; within an example the noise is Gaussian, here of 100 values.
    kurtosis = within.square().mean() / within.mean().square()
    assert kurtosis.item() == pytest.approx(3 * (1 + 2 / 100), rel=0.1)
    halves = noise.view(draws, 2, 50).square().mean(dim=2).sqrt()
    assert torch.corrcoef(halves.T)[0, 1] > 0.95


def test_no_gradient_of_the_encoder_enters_the_noise():
    mean = torch.randn(2, 3, 4, requires_grad=True)
    latents = mean + sigma_noise(mean, 0.5, lambda *shape: torch.randn(2, *shape))
    weights = torch.randn(2, 3, 4)
    (latents * weights).sum().backward()
    torch.testing.assert_close(mean.grad, weights)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("inf"), float("nan")])
def test_a_sigma_that_is_no_positive_number_is_refused(sigma):
    with pytest.raises(ValueError, match=f"`sigma` must be positive and finite, not {sigma}"):
        sigma_noise(torch.zeros(1, 2, 3), sigma, torch.randn)


def test_means_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"`mean` must have shape \(batch, channels, frames\), not \(2, 3\)"):
        sigma_noise(torch.zeros(2, 3), 0.5, torch.randn)
