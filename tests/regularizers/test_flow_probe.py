"""The flow probe: its times, its closed forms, where its gradient goes, and that scale cannot be gamed."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from scipy.special import expit, logit
from scipy.stats import truncnorm

from star_hf.flow import interpolate
from star_hf.regularizers import running_std
from star_hf.regularizers.flow_probe import FlowProbe, truncated_logit_normal_times


def quantiles(count: int) -> torch.Tensor:
    return torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count).float()


def tiny_probe(channels: int = 3, trained: bool = False, **settings) -> FlowProbe:
    probe = FlowProbe(channels, **{"hidden_size": 16, "num_layers": 2, "num_heads": 2, **settings})
    if trained:
        for parameter in probe.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return probe


def inputs(batch: int = 4, channels: int = 3, frames: int = 6):
    latents = 2 * torch.randn(batch, channels, frames) + torch.arange(1.0, channels + 1)[:, None]
    return latents, torch.randn(batch, channels, frames), torch.randn(batch)


def pooled_std(latents: torch.Tensor) -> torch.Tensor:
    centred = latents - latents.mean((0, 2), keepdim=True)
    return centred.square().mean().sqrt()


@pytest.mark.parametrize("truncation", [0.0, 0.075, 0.5])
def test_times_are_scipys_truncated_logit_normal(truncation):
    normal = torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.0])
    lowest = logit(truncation) if truncation else -math.inf
    x = expit(truncnorm(lowest, math.inf).ppf(torch.special.ndtr(normal.double()).numpy()))
    expected = torch.from_numpy((x - truncation) / (1 - truncation)).float()
    times = truncated_logit_normal_times(normal, truncation)
    torch.testing.assert_close(times, expected, rtol=1e-4, atol=1e-6)


def test_times_reach_from_noise_to_data_and_no_further():
    times = truncated_logit_normal_times(torch.tensor([-40.0, -9.0, 0.0, 9.0, 40.0]))
    assert times[0] == 0 and times[-1] == 1
    assert (times.diff() >= 0).all() and 0.4 < times[2] < 0.5


def test_the_path_is_sames_with_time_reversed():
    latents, noise, normal = inputs()
    # SAME: z (1 - τ) + ε τ at τ = 1 - x, x truncated logit-normal and rescaled.
    x = expit(truncnorm(logit(0.075), math.inf).ppf(torch.special.ndtr(normal.double()).numpy()))
    tau = 1 - (torch.from_numpy(x).float() - 0.075) / 0.925
    theirs = latents * (1 - tau)[:, None, None] + noise * tau[:, None, None]
    ours = interpolate(noise, latents, truncated_logit_normal_times(normal))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("per_channel", [False, True])
def test_untrained_loss_is_the_mean_squared_target(per_channel):
    latents, noise, normal = inputs()
    std = latents.std(dim=(0, 2), correction=0)[:, None] if per_channel else pooled_std(latents)
    expected = (latents / std - noise).square().mean()
    loss = tiny_probe(per_channel=per_channel)(latents, noise, normal)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("mixing", "eigenvalues"),
    [([[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), ([[1.0, 0.0], [1.0, 0.0]], [2.0, 0.0])],
    ids=["independent", "equal"],
)
def test_training_reaches_the_best_velocity_of_gaussian_latents(mixing, eigenvalues):
    """Var(z_1 - ε | z_t) = λ / (t² λ + (1 - t)²) along a direction of variance λ."""
    times = truncated_logit_normal_times(quantiles(10000)).double()
    best = torch.stack([λ / (times**2 * λ + (1 - times) ** 2) for λ in torch.tensor(eigenvalues)]).mean()
    probe = FlowProbe(2, hidden_size=32, num_layers=1, num_heads=2)
    optimizer = torch.optim.Adam(probe.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, 250)
    normal = quantiles(64)

    def loss():
        latents = torch.tensor(mixing) @ torch.randn(64, 2, 8)
        return probe(latents, torch.randn(64, 2, 8), normal, detach=True)

    for _ in range(250):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()
    probe.eval()
    with torch.no_grad():
        reached = torch.stack([loss() for _ in range(20)]).mean().item()
    assert best.item() == pytest.approx(reached, rel=0.04)
    assert best < 1.75 < 2


@pytest.mark.parametrize("detach", [True, False])
def test_detached_latents_get_no_gradient_and_the_weights_always_do(detach):
    probe = tiny_probe(trained=True)
    latents, noise, normal = inputs()
    latents.requires_grad_()
    probe(latents, noise, normal, detach=detach).backward()
    assert all(parameter.grad.any() for parameter in probe.parameters())
    if detach:
        assert latents.grad is None
    else:
        assert latents.grad.abs().amin(1).all()


def test_detaching_changes_neither_the_loss_nor_the_weights_gradient():
    probe = tiny_probe(trained=True).eval()
    latents, noise, normal = inputs()
    losses = [probe(latents.clone().requires_grad_(), noise, normal, detach=d) for d in (True, False)]
    assert losses[0] == losses[1]
    first, second = (torch.autograd.grad(loss, list(probe.parameters())) for loss in losses)
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("scale", [1e-2, 0.5, 300.0])
def test_loss_is_the_same_for_scaled_latents_once_the_deviation_has_followed(scale):
    probe = tiny_probe(trained=True, std_decay=0.5)
    latents, noise, normal = inputs()
    before = probe(latents, noise, normal)
    at_once = probe(scale * latents, noise, normal)
    for _ in range(60):
        after = probe(scale * latents, noise, normal)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=0)
    assert abs(at_once - before) > 1e-3


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("follows", [True, False])
def test_no_gradient_asks_for_smaller_latents(trained, follows):
    """The loss falls with the latents' size against the noise; the encoder must not be told."""
    probe = tiny_probe(trained=trained)
    latents, noise, normal = inputs()
    probe(latents, noise, normal)
    probe.train(follows)
    latents = (1.5 * latents).requires_grad_()
    (gradient,) = torch.autograd.grad(probe(latents, noise, normal), latents)
    size = (gradient.norm() * latents.norm()).item()
    assert size > 0.1
    assert (gradient * latents).sum().abs() < 1e-5 * size
    with torch.no_grad():
        probe.eval()
        assert probe(0.9 * latents, noise, normal) < probe(latents, noise, normal)


def test_per_channel_no_gradient_asks_for_a_smaller_channel():
    latents, noise, normal = inputs()
    latents.requires_grad_()
    for per_channel in (True, False):
        probe = tiny_probe(trained=True, per_channel=per_channel)
        (gradient,) = torch.autograd.grad(probe(latents, noise, normal), latents)
        radial = (gradient * latents).sum((0, 2)).abs()
        assert (radial < 1e-5).all() if per_channel else (radial > 1e-3).any()


def test_constant_offsets_are_no_signal():
    latents, noise, normal = inputs()
    probe, offset = tiny_probe(), tiny_probe()
    probe(latents, noise, normal)
    offset(latents + torch.tensor([[100.0], [-7.0], [0.0]]), noise, normal)
    torch.testing.assert_close(offset.latent_std, probe.latent_std, rtol=1e-4, atol=0)


def test_running_deviation_worked_by_hand():
    """An equal average over the first 1 / (1 - d) calls, exponential from there."""
    probe = tiny_probe(channels=1, std_decay=0.75)
    latents = torch.tensor([[[-1.0, 1.0]]])
    expected = [4.0, 3.0, 3.0, 3.0, 0.75 * 3 + 0.25 * 11, 0.75 * 5 + 0.25 * 1]
    for size, value in zip((4, 2, 3, 3, 11, 1), expected, strict=True):
        probe(size * latents, torch.zeros(1, 1, 2), torch.zeros(1))
        torch.testing.assert_close(probe.latent_std.item(), value)


def test_deviation_is_kept_in_evaluation_and_without_gradients():
    probe = tiny_probe()
    latents, noise, normal = inputs()
    probe(latents, noise, normal)
    kept = probe.latent_std.clone()
    with torch.no_grad():
        probe(5 * latents, noise, normal)
    probe.eval()
    probe(5 * latents, noise, normal)
    assert torch.equal(probe.latent_std, kept)
    assert {"latent_std", "num_updates"} <= probe.state_dict().keys()


def test_two_calls_may_precede_the_backward_pass():
    probe = tiny_probe(trained=True)
    latents, noise, normal = inputs()
    latents.requires_grad_()
    (probe(latents, noise, normal) + probe(2 * latents, noise, normal)).backward()
    assert latents.grad.isfinite().all()


@pytest.mark.parametrize("frames", [1, 2, 33])
def test_any_number_of_frames(frames):
    latents, noise, normal = inputs(frames=frames)
    assert tiny_probe(trained=True)(latents, noise, normal).isfinite()


def test_order_of_frames_matters():
    probe = tiny_probe(trained=True).eval()
    latents, noise, normal = inputs()
    turned = [tensor[..., [1, 0, 2, 3, 4, 5]] for tensor in (latents, noise)]
    assert abs(probe(latents, noise, normal) - probe(*turned, normal)) > 1e-5


def test_attention_sees_distances_between_frames_not_their_place():
    block = tiny_probe(trained=True).blocks[0]
    tokens, condition = torch.randn(2, 6, 16), torch.randn(2, 16)
    near, far, spread = (
        block(tokens, condition, get_1d_rotary_pos_embed(8, positions, use_real=True))
        for positions in (torch.arange(6), 100 + torch.arange(6), 3 * torch.arange(6))
    )
    torch.testing.assert_close(far, near, rtol=1e-3, atol=1e-4)
    assert (spread - near).abs().max() > 1e-2


def test_constant_latents_are_finite():
    latents = torch.ones(2, 3, 4, requires_grad=True)
    loss = tiny_probe()(latents, torch.randn(2, 3, 4), torch.randn(2))
    loss.backward()
    assert loss.isfinite() and latents.grad.isfinite().all()


def test_half_precision_latents_and_autocast():
    probe = tiny_probe(trained=True).eval()
    latents, noise, normal = inputs()
    half = latents.bfloat16().requires_grad_()
    exact = probe(half.detach().float(), noise, normal)
    with torch.autocast("cpu", torch.bfloat16):
        loss = probe(half, noise, normal)
    loss.backward()
    assert loss.dtype == torch.float32 and half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, exact, rtol=3e-2, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent_channels": 0}, "`latent_channels`.*0"),
        ({"num_layers": 0}, "`num_layers`.*0"),
        ({"num_heads": 0}, "`hidden_size`.*0"),
        ({"hidden_size": 18}, "`hidden_size`.*18 for 4"),
        ({"std_decay": 1.0}, "`std_decay`.*1.0"),
        ({"truncation": 1.0}, "`truncation`.*1.0"),
        ({"truncation": -0.1}, "`truncation`.*-0.1"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FlowProbe(**{"latent_channels": 3, "hidden_size": 16, **arguments})


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 4, 5), (2, 4, 5), (2,)), r"`latents`.*3 channels.*\(2, 4, 5\)"),
        (((2, 3), (2, 3), (2,)), "`latents`"),
        (((2, 3, 5), (2, 5, 3), (2,)), "`noise`"),
        (((2, 3, 5), (2, 3, 5), (2, 1)), "`normal`"),
        (((2, 3, 5), (2, 3, 5), (3,)), "`normal`"),
    ],
)
def test_other_shapes_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        tiny_probe()(*(torch.zeros(shape) for shape in shapes))


def test_times_of_another_truncation_are_refused():
    with pytest.raises(ValueError, match="`truncation`.*1.5"):
        truncated_logit_normal_times(torch.zeros(1), 1.5)


@pytest.mark.parametrize("per_channel", [False, True])
def test_processes_that_train_together_share_the_std_of_all_their_latents(per_channel, monkeypatch):
    latents, noise, normal = inputs(batch=4)
    alone = tiny_probe(per_channel=per_channel)
    alone(latents, noise, normal)
    sent = []
    monkeypatch.setattr(running_std.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(running_std.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(running_std.distributed, "all_reduce", lambda moments: sent.append(moments.clone()))
    tiny_probe(per_channel=per_channel)(latents[1:], noise[1:], normal[1:])
    monkeypatch.setattr(running_std.distributed, "all_reduce", lambda moments: moments.add_(sent[0]))
    together = tiny_probe(per_channel=per_channel)
    together(latents[:1], noise[:1], normal[:1])
    torch.testing.assert_close(together.latent_std, alone.latent_std, rtol=1e-5, atol=0)
