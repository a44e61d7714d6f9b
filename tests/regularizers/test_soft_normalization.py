"""Soft normalization against diffusers' bottleneck of SAME, and its loss against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_same import SoftNormBottleneck

from star_hf.regularizers import running_std
from star_hf.regularizers.soft_normalization import SoftNormalization, moment_loss


def spread(channels=3):
    """A module whose every tensor matters, and activations for it."""
    module = SoftNormalization(channels)
    with torch.no_grad():
        module.scale.uniform_(0.5, 2)
        module.bias.normal_()
        module.running_std.fill_(1.7)
    return module, torch.randn(2, channels, 9)


def test_it_is_sames_bottleneck_on_sames_own_tensors():
    theirs = SoftNormBottleneck(3)
    with torch.no_grad():
        theirs.scale.uniform_(0.5, 2)
        theirs.bias.normal_()
        theirs.running_std.fill_(0.3)
    ours = SoftNormalization(3).eval()
    ours.load_state_dict(theirs.state_dict())
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    x = torch.randn(2, 3, 9)
    latents = ours(x)
    torch.testing.assert_close(latents, theirs.encode(x))
    torch.testing.assert_close(ours.inverse(latents), theirs.decode(latents))
    torch.testing.assert_close(ours.inverse(latents), x * ours.scale + ours.bias)


def test_a_new_one_is_the_identity():
    x = torch.randn(2, 3, 9)
    module = SoftNormalization(3).eval()
    assert torch.equal(module(x), x) and torch.equal(module.inverse(x), x)


def test_the_running_std_follows_scaled_and_shifted_activations():
    module, x = spread()
    activations = (x * module.scale + module.bias).detach().double()
    expected = 0.999 * 1.7 + 0.001 * activations.std(correction=0)
    latents = module.train()(x)
    assert module.running_std.item() == pytest.approx(expected.item(), rel=1e-6)
    # The division is by the value after the update.
    torch.testing.assert_close(latents, (activations / expected).float())
    for _ in range(5):
        module(x)
        expected = 0.999 * expected + 0.001 * activations.std(correction=0)
    assert module.running_std.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_running_std_converges_to_the_std_and_not_below_its_floor():
    module = SoftNormalization(2, decay=0.5)
    x = torch.tensor([[[1.0, -1.0], [3.0, -3.0]]])
    for _ in range(40):
        module(x)
    assert module.running_std.item() == pytest.approx(math.sqrt(5), rel=1e-6)
    for _ in range(40):
        module(torch.zeros_like(x))
    assert module.running_std.item() == pytest.approx(1e-4)


@pytest.mark.parametrize("case", ["evaluation", "no gradients", "frozen"])
def test_only_training_changes_the_running_std(case):
    module, x = spread()
    module.train(case != "evaluation").requires_grad_(case != "frozen")
    with torch.set_grad_enabled(case != "no gradients"):
        module(x)
    assert module.running_std.item() == pytest.approx(1.7)


def test_gradients_are_those_of_a_constant_running_std_whatever_comes_between():
    module, x = spread()
    x.requires_grad_()
    latents = module(x)
    decoded = module.inverse(latents)
    deviation = module.running_std.item()
    # Another step's forward pass, before the backward pass of this one.
    module(torch.full_like(x, 1e3).normal_(std=1e4))
    assert module.running_std.item() != pytest.approx(deviation)
    (latents.sum() + decoded.sum()).backward()
    torch.testing.assert_close(module.bias.grad.flatten(), torch.full((3,), 18 * (1 / deviation + 1)))
    expected = (module.scale * (1 / deviation + 1)).expand_as(x)
    torch.testing.assert_close(x.grad, expected.detach())


def test_processes_that_train_together_share_the_std_of_all_their_values(monkeypatch):
    values = 3 + 2 * torch.randn(4, 3, 50)
    alone = torch.ones(1)
    running_std.update_running_std(alone, values, decay=0.9)
    sent = []
    monkeypatch.setattr(running_std.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(running_std.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(running_std.distributed, "all_reduce", lambda moments: sent.append(moments.clone()))
    running_std.update_running_std(torch.ones(1), values[1:], decay=0.9)
    monkeypatch.setattr(running_std.distributed, "all_reduce", lambda moments: moments.add_(sent[0]))
    together = torch.ones(1)
    # Shares of different sizes count by their sizes.
    running_std.update_running_std(together, values[:1], decay=0.9)
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=0)
    assert alone.item() == pytest.approx(0.9 + 0.1 * values.double().std(correction=0).item(), rel=1e-6)


def test_the_loss_worked_by_hand():
    # Over time: μ = 2, v = 1 and μ = 0, v = 4. Over channels: μ = 2.5, v = 0.25 and μ = -0.5, v = 6.25.
    latents = torch.tensor([[[3.0, 1.0], [2.0, -2.0]]], dtype=torch.float64)
    over_time = (4 + (3 - math.log(4))) / 2
    over_channels = ((6.25 + 0.25 - math.log(0.25) - 1) + (0.25 + 2.25 - math.log(2.25) - 1)) / 2
    assert moment_loss(latents, channel_weight=0).item() == pytest.approx(over_time, rel=1e-12)
    expected = over_time + 0.4 * over_channels
    assert moment_loss(latents).item() == pytest.approx(expected, rel=1e-12)
    assert moment_loss(latents.float()).item() == pytest.approx(expected, rel=1e-6)


def test_variances_count_as_one_ten_thousandth_at_least():
    constant = torch.full((2, 3, 4), 0.5)
    expected = 1.4 * (0.25 + 1e-4 - math.log(1e-4) - 1)
    assert moment_loss(constant).item() == pytest.approx(expected, rel=1e-5)
    assert moment_loss(torch.full((1, 1, 1), 0.5)).item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_least_where_all_moments_are_0_and_1():
    # Each row and each column has mean 0 and variance 1.
    signs = torch.tensor([[1.0, -1, 1, -1], [-1, 1, -1, 1], [1, 1, -1, -1], [-1, -1, 1, 1]])
    latents = signs.repeat(3, 1, 1).requires_grad_()
    loss = moment_loss(latents)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert latents.grad.abs().max() < 1e-6
    for change in (latents + 0.1, latents * 1.1, latents * 0.9):
        assert moment_loss(change) > 0.01


def test_descending_the_loss_leads_to_moments_of_0_and_1():
    latents = (5 + 3 * torch.randn(2, 16, 64)).requires_grad_()
    optimizer = torch.optim.Adam([latents], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        moment_loss(latents).backward()
        optimizer.step()
    for dim in (1, 2):
        assert latents.mean(dim=dim).abs().mean() < 0.05
        assert (latents.var(dim=dim, correction=0) - 1).abs().mean() < 0.05


def test_clips_count_each_by_itself():
    latents = torch.randn(3, 4, 20) * torch.tensor([0.5, 1.0, 3.0]).view(3, 1, 1)
    alone = torch.stack([moment_loss(clip[None]) for clip in latents])
    torch.testing.assert_close(moment_loss(latents), alone.mean())


def test_half_precision_is_computed_in_single():
    latents = (300 * torch.randn(2, 3, 50)).half()
    loss = moment_loss(latents)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, moment_loss(latents.double()).float())
    module, x = spread()
    expected = module(x)
    assert module.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(module(x.bfloat16()).float(), expected, rtol=0.03, atol=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SoftNormalization(0), "`channels` must be at least 1, not 0"),
        (lambda: SoftNormalization(2, decay=1.0), "`decay` must be at least 0 and less than 1, not 1.0"),
        (lambda: SoftNormalization(2, floor=0.0), "`floor` must be positive and finite, not 0.0"),
        (lambda: moment_loss(torch.zeros(2, 3)), r"`latents`.*\(batch, channels, frames\), not \(2, 3\)"),
        (lambda: moment_loss(torch.zeros(1, 2, 3), -0.1), "`channel_weight` must be at least 0.*-0.1"),
    ],
)
def test_values_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
