"""The diagonal Gaussian posterior against closed forms and torch.distributions."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution
from torch.distributions import Normal
from torch.distributions.kl import kl_divergence as reference_kl

from star_hf.autoencoder import DiagonalGaussianPosterior


@pytest.fixture
def parameters():
    return 3 * torch.randn(2, 10, 7, dtype=torch.float64)


def test_the_first_half_of_the_channels_are_means_and_the_second_scales(parameters):
    posterior = DiagonalGaussianPosterior(parameters)
    assert torch.equal(posterior.mean, parameters[:, :5])
    torch.testing.assert_close(posterior.std, parameters[:, 5:].exp().log1p() + 1e-4)
    assert torch.equal(posterior.mode(), posterior.mean)


def test_moments_equal_those_of_diffusers_posterior(parameters):
    ours, theirs = DiagonalGaussianPosterior(parameters), OobleckDiagonalGaussianDistribution(parameters)
    for name in ("mean", "scale", "std", "var", "logvar"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    # Theirs leaves the ½ out and sums over channels before the mean.
    torch.testing.assert_close(2 * ours.kl().sum(1).mean(), theirs.kl())


def test_kl_is_that_of_torch_distributions(parameters):
    posterior = DiagonalGaussianPosterior(parameters)
    expected = reference_kl(Normal(posterior.mean, posterior.std), Normal(0.0, 1.0))
    torch.testing.assert_close(posterior.kl(), expected, rtol=1e-12, atol=1e-12)


def test_samples_have_the_posteriors_moments():
    mean, scale = torch.tensor([-3.0, 0.5]), torch.tensor([-4.0, 1.0])
    draws = 40000
    parameters = torch.cat([mean, scale])[None, :, None].expand(1, 4, draws)
    posterior = DiagonalGaussianPosterior(parameters)
    sample = posterior.sample(torch.Generator().manual_seed(0))
    std = posterior.std[0, :, 0]
    # Five standard errors.
    assert ((sample[0].mean(-1) - mean).abs() < 5 * std / draws**0.5).all()
    assert ((sample[0].std(-1) / std - 1).abs() < 5 / (2 * draws) ** 0.5).all()


def test_a_generator_makes_samples_reproducible(parameters):
    posterior = DiagonalGaussianPosterior(parameters)
    first, second, other = (posterior.sample(torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(posterior.sample(), posterior.sample())


def test_a_generator_for_each_clip_makes_its_sample_independent_of_the_batch(parameters):
    posterior = DiagonalGaussianPosterior(parameters)
    both = posterior.sample([torch.Generator().manual_seed(seed) for seed in (3, 4)])
    for clip, seed in enumerate((3, 4)):
        alone = DiagonalGaussianPosterior(parameters[clip : clip + 1]).sample(
            torch.Generator().manual_seed(seed)
        )
        torch.testing.assert_close(both[clip : clip + 1], alone)


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_generators_are_refused(count):
    posterior = DiagonalGaussianPosterior(torch.zeros(3, 4, 5))
    with pytest.raises(ValueError, match=f"`generator`.*list of 3.*list of {count}"):
        posterior.sample([torch.Generator()] * count)


def test_gradients_reach_mean_and_scale():
    parameters = torch.randn(1, 4, 3, requires_grad=True)
    posterior = DiagonalGaussianPosterior(parameters)
    (posterior.sample().square().sum() + posterior.kl().sum()).backward()
    assert (parameters.grad != 0).all()
