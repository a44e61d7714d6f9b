"""The balance: its two forms agree with each other and with the equation, at any scale and precision."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from star_hf.losses.gradient_balance import balance_gradients, gradient_norm_weight


def losses(for_reconstruction, for_alignment):
    return for_reconstruction.square().mean(), 1000 * for_alignment.sin().sum()


def gradients(latents):
    """Those of the two losses alone, in float64."""
    latents = latents.detach().double().requires_grad_()
    return [torch.autograd.grad(loss, latents)[0] for loss in losses(latents, latents)]


def balanced_gradient(latents, fraction):
    latents = latents.detach().requires_grad_()
    sum(losses(*balance_gradients(latents, fraction))).backward()
    return latents.grad


@pytest.fixture
def latents():
    return torch.randn(3, 4, 5)


@pytest.mark.parametrize("fraction", [0.5, 2.0])
def test_the_gradient_is_that_of_the_equation(latents, fraction):
    reconstruction, alignment = gradients(latents)
    expected = reconstruction + fraction * reconstruction.norm() / alignment.norm() * alignment
    gradient = balanced_gradient(latents, fraction)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-5, atol=1e-8)
    share = gradient.double() - reconstruction
    assert float(share.norm() / reconstruction.norm()) == pytest.approx(fraction, rel=1e-5)


def test_both_forms_agree(latents):
    latents.requires_grad_()
    values = losses(latents, latents)
    weight = gradient_norm_weight(*values, latents, fraction=0.3)
    assert weight.shape == () and not weight.requires_grad
    (values[0] + weight * values[1]).backward()
    torch.testing.assert_close(latents.grad, balanced_gradient(latents, 0.3))


def test_the_outputs_are_the_latents(latents):
    for output in balance_gradients(latents.requires_grad_()):
        assert torch.equal(output, latents)


def test_a_gradient_of_zero_adds_nothing(latents):
    latents.requires_grad_()
    for factors in ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0)):
        first, second = balance_gradients(latents)
        reconstruction, alignment = losses(first, second)
        (factors[0] * reconstruction + factors[1] * alignment).backward()
        # the alignment's share of a reconstruction gradient of zero is zero
        torch.testing.assert_close(latents.grad.double(), factors[0] * gradients(latents)[0])
        latents.grad = None
    weight = gradient_norm_weight(latents.square().sum(), 0 * latents.sum(), latents)
    assert weight == 0


def test_an_output_that_is_not_used(latents):
    latents.requires_grad_()
    balance_gradients(latents)[0].square().mean().backward()
    torch.testing.assert_close(latents.grad.double(), gradients(latents)[0])
    with pytest.raises(RuntimeError, match="backward on the sum of both losses"):
        balance_gradients(latents)[1].square().mean().backward()


def test_several_losses_on_one_output_are_balanced_as_their_sum(latents):
    latents.requires_grad_()
    first, second = balance_gradients(latents)
    (first.square().sum() + first.cos().sum() + second.sum() + second.square().sum()).backward()
    plain = latents.detach().double().requires_grad_()
    (reconstruction,) = torch.autograd.grad(plain.square().sum() + plain.cos().sum(), plain)
    (alignment,) = torch.autograd.grad(plain.sum() + plain.square().sum(), plain)
    expected = reconstruction + 0.5 * reconstruction.norm() / alignment.norm() * alignment
    torch.testing.assert_close(latents.grad.double(), expected, rtol=1e-5, atol=1e-7)


def test_the_weight_of_the_alignment_does_not_reach_the_latents(latents):
    latents.requires_grad_()
    found = []
    for weight in (1e-6, 1.0, 1e6):
        reconstruction, alignment = losses(*balance_gradients(latents))
        found.append(torch.autograd.grad(reconstruction + weight * alignment, latents)[0])
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[2], found[1])


@pytest.mark.parametrize(("dtype", "scale"), [(torch.bfloat16, 1.0), (torch.float16, 512.0)])
def test_half_precision_and_scaled_gradients(latents, dtype, scale):
    """What comes back is scaled as the reconstruction's gradient is, and the norms do not overflow."""
    reconstruction, alignment = torch.randn(2, 3, 4, 5) * scale
    half = latents.to(dtype).requires_grad_()
    outputs = balance_gradients(half)
    torch.autograd.backward(outputs, [reconstruction.to(dtype), (5 * alignment).to(dtype)])
    assert half.grad.dtype == dtype
    expected = reconstruction + 0.5 * reconstruction.norm() / alignment.norm() * alignment
    torch.testing.assert_close(half.grad.float(), expected, rtol=0.02, atol=0.02 * scale)


def test_gradients_that_overflowed_stay_visible(latents):
    """A gradient scaler must see them to skip the step."""
    outputs = balance_gradients(latents.requires_grad_())
    spoiled = torch.ones_like(latents)
    spoiled[0, 0, 0] = torch.inf
    torch.autograd.backward(outputs, [torch.ones_like(latents), spoiled])
    assert not torch.isfinite(latents.grad).all()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_changes_nothing(latents, reentrant):
    encoder, decoder = torch.nn.Linear(5, 5), torch.nn.Linear(5, 5)

    def gradient(run):
        inputs = latents.clone().requires_grad_()
        first, second = balance_gradients(run(encoder, inputs))
        (run(decoder, first).square().mean() + second.abs().sum()).backward()
        return inputs.grad

    plain = gradient(lambda layer, x: layer(x))
    torch.testing.assert_close(gradient(lambda f, x: checkpoint(f, x, use_reentrant=reentrant)), plain)


def test_what_cannot_be_is_refused(latents):
    for fraction in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="`fraction` must be finite and at least 0"):
            balance_gradients(latents, fraction)
    latents.requires_grad_()
    other = torch.randn(3, requires_grad=True)
    with pytest.raises(ValueError, match="`alignment_loss` does not depend on `latents`"):
        gradient_norm_weight(latents.sum(), other.sum(), latents)
    with pytest.raises(ValueError, match="`reconstruction_loss` does not depend"):
        gradient_norm_weight(torch.ones(()), latents.sum(), latents)
