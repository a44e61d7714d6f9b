"""The posteriors against closed forms, torch.distributions and numbers worked by hand."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution
from torch.distributions import Normal
from torch.distributions.kl import kl_divergence as reference_kl

from star_hf.autoencoder import DeterministicPosterior, DiagonalGaussianPosterior, FixedSigmaPosterior

POSTERIORS = {
    "gaussian": lambda mean: DiagonalGaussianPosterior(torch.cat([mean, mean.sin()], dim=1)),
    "sigma": lambda mean: FixedSigmaPosterior(mean, 0.5),
    "deterministic": DeterministicPosterior,
}


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


@pytest.mark.parametrize("kind", POSTERIORS)
def test_all_posteriors_have_one_interface(kind):
    mean = torch.randn(2, 3, 5)
    posterior = POSTERIORS[kind](mean)
    assert posterior.kind == kind
    assert torch.equal(posterior.mean, mean) and torch.equal(posterior.mode(), mean)
    assert posterior.std.shape == posterior.sample().shape == mean.shape
    assert torch.equal(posterior.draw(lambda *shape: torch.randn(2, *shape), noise_scale=0.0), mean)


@pytest.mark.parametrize("kind", POSTERIORS)
@pytest.mark.parametrize("several", [False, True])
def test_a_sample_is_a_draw_of_the_generators_numbers(kind, several):
    posterior = POSTERIORS[kind](torch.randn(2, 3, 5))

    def generators():
        made = [torch.Generator().manual_seed(seed) for seed in (8, 9)]
        return made if several else made[0]

    given = generators()

    def normal(*shape):
        if several:
            return torch.stack([torch.randn(shape, generator=generator) for generator in given])
        return torch.randn(2, *shape, generator=given)

    torch.testing.assert_close(posterior.sample(generators()), posterior.draw(normal))


def numbers(*shape):
    """Normal numbers of a batch of two: 2 and -3 as scales, 0, 1, 2, … as noise."""
    if shape == (1, 1):
        return torch.tensor([2.0, -3.0]).view(2, 1, 1)
    return torch.arange(4.0).view(2, 2, 1)


def test_draws_worked_by_hand():
    mean = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    sigma = FixedSigmaPosterior(mean, 0.25).draw(numbers, noise_scale=2.0)
    assert sigma.flatten().tolist() == [1.0, 2 + 1.0, 3 - 3.0, 4 - 4.5]
    parameters = torch.cat([mean, torch.full_like(mean, -800.0)], dim=1)
    gaussian = DiagonalGaussianPosterior(parameters).draw(numbers, noise_scale=5000.0)
    torch.testing.assert_close(gaussian.flatten().tolist(), [1.0, 2.5, 4.0, 5.5])
    assert DeterministicPosterior(mean).draw(None) is mean


def test_the_std_of_a_fixed_sigma_is_that_of_its_samples():
    posterior = FixedSigmaPosterior(torch.full((40000, 1, 2), 3.0), 0.2)
    sample = posterior.sample(torch.Generator().manual_seed(0))
    assert torch.equal(posterior.std, torch.full_like(posterior.mean, 0.2))
    assert (sample - 3).square().mean().sqrt().item() == pytest.approx(0.2, rel=0.03)
    assert not DeterministicPosterior(sample).std.any()


def test_each_example_of_a_fixed_sigma_has_a_scale_of_its_own():
    mean = torch.zeros(2, 30, 40)
    both = FixedSigmaPosterior(mean, 1.0).sample([torch.Generator().manual_seed(seed) for seed in (0, 4)])
    scales = [torch.randn(1, generator=torch.Generator().manual_seed(seed)).abs().item() for seed in (0, 4)]
    torch.testing.assert_close(both.std(dim=(1, 2)).tolist(), scales, rtol=0.1, atol=0)
    alone = FixedSigmaPosterior(mean[1:], 1.0).sample(torch.Generator().manual_seed(4))
    torch.testing.assert_close(both[1:], alone)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("sigma", "closed-form KL.*mixture of Gaussians"), ("deterministic", "no finite KL divergence")],
)
def test_a_kl_that_does_not_exist_is_refused_with_the_reason(kind, message):
    with pytest.raises(ValueError, match=message):
        POSTERIORS[kind](torch.zeros(1, 2, 3)).kl()


@pytest.mark.parametrize("sigma", [0.0, -0.5, float("nan")])
def test_a_fixed_sigma_is_positive(sigma):
    with pytest.raises(ValueError, match=f"`sigma` must be positive and finite, not {sigma}"):
        FixedSigmaPosterior(torch.zeros(1, 2, 3), sigma)
