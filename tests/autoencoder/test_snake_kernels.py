"""The kernels for GPUs against the plain implementation.

On a machine without a GPU: `pip install triton`, then `TRITON_INTERPRET=1 pytest` this file.
"""

from __future__ import annotations

import os

import pytest
import torch

from star_hf.autoencoder import snake as snake_module
from star_hf.autoencoder.snake import Snake

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a GPU or Triton's interpreter", allow_module_level=True)


@pytest.fixture
def kernels():
    from star_hf.autoencoder import snake_kernels

    return snake_kernels


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 3, 1, 11), (1, 70, 1, 300), (3, 4, 1, 1)])
def test_values_and_gradients_are_those_of_the_plain_implementation(kernels, monkeypatch, dtype, shape):
    torch.manual_seed(0)
    snake = Snake(shape[1]).to(DEVICE)
    for parameter in snake.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    x = 2 * torch.randn(shape, device=DEVICE)
    weight = torch.randn(shape, device=DEVICE)

    def run(x: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
        x = x.detach().requires_grad_()
        y = snake(x)
        with torch.no_grad():
            assert torch.equal(snake(x), y)
        return [y, *torch.autograd.grad(y, (x, snake.alpha, snake.beta), weight)]

    monkeypatch.setattr(snake_module, "_kernels_for", lambda x: None)
    expected = run(x.to(dtype).float(), weight.to(dtype).float())
    monkeypatch.setattr(snake_module, "_kernels_for", lambda x: kernels)
    found = run(x.to(dtype), weight.to(dtype))
    assert found[0].dtype == found[1].dtype == dtype
    assert found[0].is_contiguous(memory_format=torch.channels_last)
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}[dtype]
    for ours, plain in zip(found, expected, strict=True):
        error = (ours.float() - plain).norm() / plain.norm()
        assert error < tolerance


def test_they_are_for_gpus_and_not_for_float64():
    assert snake_module._kernels_for(torch.zeros(1)) is None
    assert snake_module._kernels_for(torch.zeros(1, dtype=torch.float64, device=DEVICE)) is None


def test_triton_that_does_not_work_is_done_without(kernels, monkeypatch):
    def fail(*_):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(kernels, "forward", fail)
    snake_module._kernels.cache_clear()
    assert snake_module._kernels(torch.device(DEVICE)) is None
    snake_module._kernels.cache_clear()
