"""KL divergence, isotropic penalty and rate against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import AutoencoderOobleck
from torch.distributions import Normal
from torch.distributions.kl import kl_divergence as reference_kl

from star_hf import channel_kl, isotropic_kl, kl_divergence, rate_kbps, star_loss


@pytest.fixture
def posterior():
    mean = torch.randn(2, 3, 4, dtype=torch.float64)
    return mean, torch.rand(2, 3, 4, dtype=torch.float64) + 0.01


def test_divergence_worked_by_hand():
    mean = torch.tensor([0.0, 2.0, 0.0, 1.0], dtype=torch.float64).view(1, 1, 4)
    std = torch.tensor([1.0, 1.0, 2.0, 0.5], dtype=torch.float64).view(1, 1, 4)
    expected = [0.0, 2.0, 1.5 - math.log(2), 0.125 + math.log(2)]
    torch.testing.assert_close(kl_divergence(mean, std).flatten().tolist(), expected)


def test_divergence_is_that_of_torch_distributions(posterior):
    expected = reference_kl(Normal(*posterior), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(*posterior), expected, rtol=1e-12, atol=1e-12)


def test_every_penalty_is_zero_at_the_prior():
    mean, std = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    assert not kl_divergence(mean, std).any()
    assert isotropic_kl(mean, std, 1.0) == star_loss(mean, std) == rate_kbps(mean, std, 20.0) == 0


def test_channel_kl_is_the_mean_over_batch_and_frames(posterior):
    elementwise = kl_divergence(*posterior)
    expected = [elementwise[:, channel].sum().item() / 8 for channel in range(3)]
    torch.testing.assert_close(channel_kl(*posterior).tolist(), expected)


def test_isotropic_kl_is_beta_times_the_sum(posterior):
    total = channel_kl(*posterior).sum()
    torch.testing.assert_close(isotropic_kl(*posterior, 0.25), 0.25 * total)
    assert isotropic_kl(*posterior, 0.0) == 0


def test_rate_worked_by_hand():
    # Two channels of mean 2 and std 1 carry 2 nats each: 4 / ln 2 bits a frame.
    mean, std = torch.full((1, 2, 5), 2.0), torch.ones(1, 2, 5)
    expected = 4 / math.log(2) * 21.5 / 1000
    torch.testing.assert_close(rate_kbps(mean, std, 21.5), torch.tensor(expected))


def test_gradients_worked_by_hand(posterior):
    mean, std = (tensor.requires_grad_() for tensor in posterior)
    kl_divergence(mean, std).sum().backward()
    torch.testing.assert_close(mean.grad, mean.detach())
    torch.testing.assert_close(std.grad, std.detach() - 1 / std.detach())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    """Squares leave the range of float16, and 1 - std² loses bfloat16's few digits."""
    mean = torch.tensor([300.0, 0.0, 0.0], dtype=dtype).view(1, 1, 3)
    std = torch.tensor([1.0, 1e-4, 0.9844], dtype=dtype).view(1, 1, 3)
    kl = kl_divergence(mean, std)
    assert kl.dtype == torch.float32
    torch.testing.assert_close(kl.double(), kl_divergence(mean.double(), std.double()), rtol=1e-4, atol=1e-7)


def test_penalties_take_the_posterior_of_diffusers_autoencoder():
    autoencoder = AutoencoderOobleck(
        encoder_hidden_size=6, downsampling_ratios=[2, 4], channel_multiples=[1, 2], decoder_input_channels=3
    )
    posterior = autoencoder.encode(torch.randn(1, 2, 64)).latent_dist
    # Theirs leaves the ½ out.
    torch.testing.assert_close(2 * isotropic_kl(posterior.mean, posterior.std, 1.0), posterior.kl())
    star_loss(posterior.mean, posterior.std).backward()
    assert all(p.grad is not None and p.grad.any() for p in autoencoder.encoder.conv1.parameters())


@pytest.mark.parametrize("function", [kl_divergence, channel_kl, star_loss])
@pytest.mark.parametrize(("mean", "std"), [((2, 3), (2, 3)), ((1, 3, 4), (1, 3, 5)), ((1, 2, 3, 4),) * 2])
def test_other_shapes_are_refused(function, mean, std):
    with pytest.raises(ValueError, match=r"`mean` and `std`.*\(batch, channels, frames\)"):
        function(torch.zeros(mean), torch.ones(std))


@pytest.mark.parametrize("beta", [-1e-6, math.nan, math.inf])
def test_other_betas_are_refused(beta):
    with pytest.raises(ValueError, match=f"`beta`.*{beta}"):
        isotropic_kl(torch.zeros(1, 2, 3), torch.ones(1, 2, 3), beta)


@pytest.mark.parametrize("frame_rate", [0.0, -1.0, math.nan, math.inf])
def test_other_frame_rates_are_refused(frame_rate):
    with pytest.raises(ValueError, match=f"`frame_rate`.*{frame_rate}"):
        rate_kbps(torch.zeros(1, 2, 3), torch.ones(1, 2, 3), frame_rate)
