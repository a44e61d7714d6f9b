"""Noise on latents: its scale follows the latents' spread, in training mode only."""

from __future__ import annotations

import pytest
import torch

from star_hf.regularizers.latent_noise import LatentNoise


def ones(*shape):
    return torch.ones(2, *shape)


def test_the_noise_is_a_share_of_the_running_std():
    module = LatentNoise(scale=0.1, decay=0.9)
    latents = 3 * torch.randn(2, 3, 50)
    noisy = module(latents, ones)
    expected = 0.9 + 0.1 * latents.double().std(correction=0).item()
    assert module.running_std.item() == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(
        noisy - latents, torch.full_like(latents, 0.1 * expected), rtol=1e-4, atol=1e-6
    )


def test_larger_latents_get_larger_noise():
    module = LatentNoise(scale=0.05, decay=0.5)
    latents = 40 * torch.randn(2, 3, 200)
    for _ in range(30):
        module(latents, ones)
    noise = module(latents, lambda *shape: torch.randn(2, *shape)) - latents
    assert (noise.std() / latents.std()).item() == pytest.approx(0.05, rel=0.1)


def test_evaluation_changes_nothing_and_asks_for_no_numbers():
    module = LatentNoise().eval()
    latents = torch.randn(2, 3, 5)
    assert module(latents, None) is latents
    assert module.running_std.item() == 1


def test_without_gradients_the_running_std_stays_and_the_noise_is_there():
    module = LatentNoise(scale=0.5)
    latents = 7 * torch.randn(2, 3, 5)
    with torch.no_grad():
        noisy = module(latents, ones)
    assert module.running_std.item() == 1
    torch.testing.assert_close(noisy, latents + 0.5)


def test_gradients_pass_as_through_the_identity_whatever_comes_between():
    module = LatentNoise()
    latents = torch.randn(2, 3, 5, requires_grad=True)
    noisy = module(latents, ones)
    module(100 * torch.randn(2, 3, 5), ones)
    noisy.square().sum().backward()
    torch.testing.assert_close(latents.grad, 2 * noisy.detach())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": -0.1}, "`scale` must be at least 0 and finite, not -0.1"),
        ({"scale": float("nan")}, "`scale` must be at least 0 and finite, not nan"),
        ({"decay": -0.1}, "`decay` must be at least 0 and less than 1, not -0.1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LatentNoise(**settings)
