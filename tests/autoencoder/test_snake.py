"""The Snake activation: values and gradients against the closed form, and its blocks against one pass."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import Snake1d

from star_hf.autoencoder import snake as snake_module
from star_hf.autoencoder.snake import Snake


def random_snake(channels: int, dtype: torch.dtype = torch.float64) -> Snake:
    snake = Snake(channels).to(dtype)
    with torch.no_grad():
        snake.alpha.normal_(std=0.7)
        snake.beta.normal_(std=0.7)
    return snake


def closed_form(snake: Snake, x: torch.Tensor) -> torch.Tensor:
    frequency, inverse_gain = snake.alpha.exp().unsqueeze(2), snake.beta.exp().unsqueeze(2)
    return x + torch.sin(frequency * x) ** 2 / (inverse_gain + 1e-9)


@pytest.fixture(params=[1 << 17, 8], ids=["one block", "many blocks"])
def block_elements(request, monkeypatch):
    monkeypatch.setattr(snake_module, "_BLOCK_ELEMENTS", request.param)


@pytest.mark.usefixtures("block_elements")
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 1, 11), (1, 1, 1, 5), (3, 4, 1, 1)])
def test_forward_is_the_closed_form(shape, gradients):
    snake, x = random_snake(shape[1]), 2 * torch.randn(shape, dtype=torch.float64)
    with torch.set_grad_enabled(gradients):
        y = snake(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, closed_form(snake, x), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("block_elements")
def test_backward_passes_gradcheck():
    snake, x = random_snake(3), torch.randn(2, 3, 1, 5, dtype=torch.float64, requires_grad=True)

    def run(x, alpha, beta):
        return torch.func.functional_call(snake, {"alpha": alpha, "beta": beta}, (x,))

    assert torch.autograd.gradcheck(run, (x, snake.alpha, snake.beta), rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("block_elements")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_are_those_of_the_closed_form(dtype):
    snake = random_snake(4, dtype)
    x = torch.randn(2, 4, 1, 9, dtype=dtype, requires_grad=True)
    weight = torch.randn_like(x)
    inputs = (x, snake.alpha, snake.beta)
    ours = torch.autograd.grad((snake(x) * weight).sum(), inputs)
    expected = torch.autograd.grad((closed_form(snake, x) * weight).sum(), inputs)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    for gradient, reference in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("trained", ["alpha", "beta"])
def test_a_single_trained_parameter_gets_its_gradient(trained):
    snake, x = random_snake(2), torch.randn(1, 2, 1, 6, dtype=torch.float64)
    snake.requires_grad_(False)
    parameter = getattr(snake, trained).requires_grad_()
    (ours,) = torch.autograd.grad(snake(x).sum(), parameter)
    (expected,) = torch.autograd.grad(closed_form(snake, x).sum(), parameter)
    torch.testing.assert_close(ours, expected)


def test_second_derivatives_are_refused():
    snake, x = random_snake(2), torch.randn(1, 2, 1, 6, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(snake(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_the_expression_that_torch_compile_sees_is_the_same(monkeypatch):
    snake = random_snake(3, torch.float32)
    x = torch.randn(2, 3, 1, 7, requires_grad=True)
    eager = snake(x)
    eager_gradients = torch.autograd.grad(eager.sum(), (x, snake.alpha, snake.beta))
    calls = []
    monkeypatch.setattr(snake_module._Snake, "apply", lambda *inputs: calls.append(inputs))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    traced = snake(x)
    gradients = torch.autograd.grad(traced.sum(), (x, snake.alpha, snake.beta))
    assert not calls
    torch.testing.assert_close(traced, eager)
    torch.testing.assert_close(gradients, eager_gradients)


def test_parameters_and_output_are_those_of_diffusers_snake():
    ours, theirs = random_snake(5, torch.float32), Snake1d(5)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 13)
    torch.testing.assert_close(ours(x.unsqueeze(2)).squeeze(2), theirs(x))


def test_half_precision_keeps_its_type_and_the_gradients_of_full_precision_parameters():
    snake = random_snake(3, torch.float32)
    x = torch.randn(1, 3, 1, 64, dtype=torch.bfloat16, requires_grad=True)
    y = snake(x)
    y.float().sum().backward()
    assert (y.dtype, x.grad.dtype, snake.alpha.grad.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    exact = x.detach().float().requires_grad_()
    expected = torch.autograd.grad(closed_form(snake, exact).sum(), (exact, snake.alpha, snake.beta))
    torch.testing.assert_close(y.float(), closed_form(snake, exact), rtol=3e-2, atol=6e-2)
    for gradient, reference in zip((x.grad, snake.alpha.grad, snake.beta.grad), expected, strict=True):
        assert torch.linalg.vector_norm(gradient - reference) < 3e-2 * torch.linalg.vector_norm(reference)
