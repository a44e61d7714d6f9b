"""Hinge and feature-matching losses: values by hand, who gets a gradient, and what is averaged."""

from __future__ import annotations

import pytest
import torch

from star_hf.losses import feature_matching_loss, hinge_discriminator_loss, hinge_generator_loss


def test_hinge_discriminator_loss_by_hand():
    real = [torch.tensor([2.0, 0.5]), torch.tensor([[-1.0]])]
    generated = [torch.tensor([-3.0, 0.0]), torch.tensor([[1.0]])]
    # First scale: (0 + 0.5) / 2 + (0 + 1) / 2; second: 2 + 2.
    assert hinge_discriminator_loss(real, generated).item() == pytest.approx((0.75 + 4.0) / 2)


def test_hinge_discriminator_loss_is_zero_beyond_the_margin_and_pulls_within_it():
    real = torch.tensor([1.5, 0.0], requires_grad=True)
    generated = torch.tensor([-1.5, 0.0], requires_grad=True)
    hinge_discriminator_loss([real], [generated]).backward()
    assert real.grad.tolist() == [0.0, -0.5]
    assert generated.grad.tolist() == [0.0, 0.5]


def test_hinge_generator_loss_by_hand():
    logits = [torch.tensor([2.0, 4.0], requires_grad=True), torch.tensor([[-1.0]], requires_grad=True)]
    loss = hinge_generator_loss(logits)
    assert loss.item() == pytest.approx((-3.0 + 1.0) / 2)
    loss.backward()
    # No margin: the pull is the same for every logit of a scale, however large.
    assert logits[0].grad.tolist() == [-0.25, -0.25]
    assert logits[1].grad.tolist() == [[-0.5]]


def test_feature_matching_loss_by_hand():
    real = [[torch.zeros(2, 2), torch.ones(4)], [torch.full((1,), 3.0)]]
    generated = [[torch.full((2, 2), 2.0), torch.tensor([1.0, 1.0, 1.0, 5.0])], [torch.tensor([-1.0])]]
    # First scale: layers 2 and 1, mean 1.5; second: 4. Layers count within their scale, scales equally.
    assert feature_matching_loss(real, generated).item() == pytest.approx((1.5 + 4.0) / 2)


def test_feature_matching_moves_the_generated_alone():
    real = torch.tensor([1.0, -1.0], requires_grad=True)
    generated = torch.tensor([0.0, 0.0], requires_grad=True)
    feature_matching_loss([[real]], [[generated]]).backward()
    assert real.grad is None
    assert generated.grad.tolist() == [-0.5, 0.5]


def test_a_batch_gives_the_mean_of_its_clips():
    generator = torch.Generator().manual_seed(0)
    real, generated = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    for loss in (
        lambda x, y: hinge_discriminator_loss([x], [y]),
        lambda x, y: hinge_generator_loss([y]),
        lambda x, y: feature_matching_loss([[x]], [[y]]),
    ):
        clips = [loss(x[None], y[None]) for x, y in zip(real, generated, strict=True)]
        torch.testing.assert_close(loss(real, generated), torch.stack(clips).mean())


def test_bfloat16_logits_and_features_give_float32_losses():
    generator = torch.Generator().manual_seed(0)
    # 4096 steps of 1/8 around one: their mean needs more digits than bfloat16 has.
    real, generated = 1 + torch.randint(0, 8, (2, 4096), generator=generator) / 8
    halves = real.bfloat16(), generated.bfloat16()
    for loss in (hinge_discriminator_loss, lambda x, y: hinge_generator_loss(y)):
        value = loss([halves[0]], [halves[1]])
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(loss([real], [generated]).item(), rel=1e-6)
    matching = feature_matching_loss([[halves[0]]], [[halves[1]]])
    assert matching.dtype == torch.float32
    assert matching.item() == pytest.approx(feature_matching_loss([[real]], [[generated]]).item(), rel=4e-3)


def test_scales_and_layers_must_match():
    x = torch.zeros(1)
    with pytest.raises(ValueError, match="same number of scales, at least one, not 1 and 2"):
        hinge_discriminator_loss([x], [x, x])
    with pytest.raises(ValueError, match="number of scales, at least one, not 0 and 0"):
        hinge_generator_loss([])
    with pytest.raises(ValueError, match="number of layers, at least one, not 2 and 1"):
        feature_matching_loss([[x], [x, x]], [[x], [x]])
