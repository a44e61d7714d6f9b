"""The bidirectional context stacks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from star_hf.autoencoder.context import (
    BidirectionalMamba2Layer,
    ContextStack,
    TransformerLayer,
    make_context,
)

CONTEXTS = ["mamba", "transformer"]


@pytest.fixture(params=CONTEXTS)
def stack(request, randomized) -> ContextStack:
    return randomized(make_context(request.param, channels=6, hidden_size=16, num_layers=2)).eval()


@pytest.mark.parametrize("context_type", CONTEXTS)
@pytest.mark.parametrize("frames", [1, 70])
def test_a_new_stack_is_the_identity_and_can_leave_it(context_type, frames):
    stack = make_context(context_type, channels=6, hidden_size=16, num_layers=1)
    features = torch.randn(2, 6, 1, frames)
    output = stack(features)
    assert torch.equal(output, features)
    output.square().sum().backward()
    assert stack.out_proj.weight.grad.abs().min() > 0


def test_none_is_the_identity_without_parameters():
    context = make_context("none", channels=6, hidden_size=16, num_layers=2)
    features = torch.randn(1, 6, 1, 4)
    assert context(features) is features
    assert not list(context.parameters())


@torch.no_grad()
@pytest.mark.parametrize(("changed", "watched"), [(-1, 0), (0, -1)], ids=["backward", "forward"])
def test_both_ends_see_each_other(stack, changed, watched):
    # Longer than one chunk of the Mamba mixer.
    features = torch.randn(1, 6, 1, 80)
    other = features.clone()
    other[..., changed] += 1
    difference = (stack(features) - stack(other)).abs()
    assert difference[..., watched].max() > 1e-6


@torch.no_grad()
def test_mamba_layer_mirrors_when_its_mixers_change_places():
    layer = BidirectionalMamba2Layer(16).eval()
    hidden_states = torch.randn(2, 70, 16)
    forward = layer(hidden_states)
    layer.mixer, layer.reverse_mixer = layer.reverse_mixer, layer.mixer
    torch.testing.assert_close(layer(hidden_states.flip(1)).flip(1), forward, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_mamba_mixers_read_in_opposite_directions():
    layer = BidirectionalMamba2Layer(16).eval()
    hidden_states = torch.randn(1, 70, 16)
    other = hidden_states.clone()
    other[:, 40] += 1
    for mixer, unseen in ((layer.reverse_mixer, slice(41, None)), (layer.mixer, slice(0, 40))):
        # Silence one direction: what it alone sees no longer changes.
        weight = mixer.out_proj.weight.clone()
        mixer.out_proj.weight.zero_()
        difference = (layer(hidden_states) - layer(other)).abs().amax((0, 2))
        mixer.out_proj.weight.copy_(weight)
        seen = slice(0, 40) if unseen.start else slice(41, None)
        assert difference[40] > 0
        assert {bool((difference[part] > 0).any()) for part in (unseen, seen)} == {True, False}


@torch.no_grad()
def test_transformer_layer_attends_by_content_and_distance():
    """Scores are Re Σ q conj(k) e^{i (m - n) θ} over pairs of features, for a query at m and a key at n."""
    frames, width = 9, 16
    layer = TransformerLayer(width).eval()
    hidden_states = torch.randn(1, frames, width)
    query, key, value = layer.to_qkv(layer.attention_norm(hidden_states))[0].chunk(3, dim=-1)
    query, key = (torch.view_as_complex(t.reshape(frames, width // 2, 2)) for t in (query, key))
    distance = torch.arange(frames)[:, None] - torch.arange(frames)
    angle = distance[..., None] * 10000 ** (-torch.arange(0, width, 2) / width)
    turn = torch.polar(torch.ones_like(angle), angle)
    scores = (query[:, None] * key.conj() * turn).real.sum(-1) / width**0.5
    attended = hidden_states + layer.to_out(scores.softmax(-1) @ value)
    expected = attended + layer.feed_forward(layer.feed_forward_norm(attended))
    torch.testing.assert_close(layer(hidden_states), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("context_type", CONTEXTS)
def test_every_parameter_of_a_stack_gets_a_gradient(context_type, randomized):
    stack = randomized(make_context(context_type, channels=4, hidden_size=16, num_layers=1))
    stack(torch.randn(2, 4, 1, 5)).square().sum().backward()
    silent = [name for name, p in stack.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_wide_stacks_have_heads_of_64():
    assert BidirectionalMamba2Layer(128).mixer.num_heads == 4
    assert TransformerLayer(128).head_dim == 64


def test_an_unknown_type_is_refused():
    with pytest.raises(
        ValueError, match="`context_type` must be one of mamba, transformer, none, not 'lstm'"
    ):
        make_context("lstm", channels=4, hidden_size=16, num_layers=1)


@pytest.mark.parametrize("num_layers", [0, -1])
def test_a_stack_without_layers_is_refused(num_layers):
    with pytest.raises(ValueError, match=f"`num_context_layers`.*{num_layers}"):
        make_context("mamba", channels=4, hidden_size=16, num_layers=num_layers)


@pytest.mark.parametrize("context_type", CONTEXTS)
@pytest.mark.parametrize("hidden_size", [-64, 0, 1, 15, 65, 96])
def test_widths_that_no_layer_can_have_are_refused(context_type, hidden_size):
    with pytest.raises(ValueError, match=f"`context_hidden_size`.*not {hidden_size}"):
        make_context(context_type, channels=4, hidden_size=hidden_size, num_layers=1)


@pytest.mark.parametrize("context_type", CONTEXTS)
@pytest.mark.parametrize("hidden_size", [2, 64, 128])
def test_widths_at_the_limits_work(context_type, hidden_size):
    stack = make_context(context_type, channels=4, hidden_size=hidden_size, num_layers=1)
    nn.init.ones_(stack.out_proj.weight)
    assert torch.isfinite(stack(torch.randn(1, 4, 1, 3))).all()
