"""The loss, in the paper's own convention of time."""

import pytest
import torch

from star_hf.flow import interpolate
from star_hf.lafa import lafa_loss


def test_loss_and_path_are_the_papers():
    """Z_t = (1 - t) Z_0 + t ε and L = ‖Û - (ε - Z_0)‖²: its t is 1 - ours, its U is minus our velocity."""
    clean, noise, velocity = torch.randn(3, 2, 4, 6, dtype=torch.float64)
    t = torch.tensor([0.2, 0.9], dtype=torch.float64)
    paper = (1 - t[:, None, None]) * clean + t[:, None, None] * noise
    torch.testing.assert_close(interpolate(noise, clean, 1 - t), paper)
    expected = (-velocity - (noise - clean)).square().mean()
    torch.testing.assert_close(lafa_loss(velocity, clean, noise).double(), expected, rtol=1e-6, atol=0)
    assert lafa_loss(clean - noise, clean, noise) == 0


def test_only_real_frames_count():
    clean, noise, velocity = torch.randn(3, 2, 4, 6)
    mask = torch.arange(6) < torch.tensor([[6], [2]])
    velocity[1, :, 2:] = 1e6
    errors = (velocity - (clean - noise)).square().mean(dim=1)
    expected = torch.cat([errors[0], errors[1, :2]]).mean()
    torch.testing.assert_close(lafa_loss(velocity, clean, noise, mask), expected)
    rows = lafa_loss(velocity, clean, noise, mask, reduction="none")
    torch.testing.assert_close(rows, torch.stack([errors[0].mean(), errors[1, :2].mean()]))


def test_a_transposed_argument_is_refused():
    with pytest.raises(ValueError, match="same shape"):
        lafa_loss(torch.randn(2, 4, 6), torch.randn(2, 6, 4), torch.randn(2, 4, 6))
