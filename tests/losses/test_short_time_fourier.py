"""The short-time Fourier transform against torch.stft, and its adjoint against the inner product."""

from __future__ import annotations

import pytest
import torch

from star_hf.losses.stft import ShortTimeFourierTransform

CASES = [
    (size, overlap, samples)
    for size, overlap in [(2, 1), (8, 1), (16, 2), (16, 4), (12, 3), (32, 4)]
    for samples in (17, 40, 61)
]


def make(size: int, overlap: int) -> ShortTimeFourierTransform:
    window = torch.hann_window(size, dtype=torch.float64) + 0.1
    return ShortTimeFourierTransform(size, size // overlap, window)


@pytest.mark.parametrize(("size", "overlap", "samples"), CASES)
def test_forward_is_torch_stft(size, overlap, samples):
    transform = make(size, overlap)
    waveform = torch.randn(3, samples, dtype=torch.float64)
    expected = torch.stft(
        waveform, size, size // overlap, window=transform.window, pad_mode="reflect", return_complex=True
    )
    torch.testing.assert_close(transform.forward(waveform), expected.transpose(1, 2))


@pytest.mark.parametrize(("size", "overlap", "samples"), CASES)
def test_adjoint_has_the_adjoints_inner_product(size, overlap, samples):
    """⟨A x, y⟩ = ⟨x, Aᵀ y⟩ over the real and imaginary parts."""
    transform = make(size, overlap)
    x = torch.randn(2, samples, dtype=torch.float64)
    spectrum = transform.forward(x)
    y = torch.randn_like(spectrum)
    expected = (spectrum.real * y.real + spectrum.imag * y.imag).sum((1, 2))
    product = (x * transform.adjoint(y.clone(), samples)).sum(1)
    torch.testing.assert_close(product, expected)


def test_adjoint_is_the_gradient_of_automatic_differentiation():
    transform = make(16, 4)
    x = torch.randn(2, 50, dtype=torch.float64, requires_grad=True)
    spectrum = transform.forward(x)
    y = torch.randn_like(spectrum)
    (expected,) = torch.autograd.grad((spectrum.real * y.real + spectrum.imag * y.imag).sum(), x)
    torch.testing.assert_close(transform.adjoint(y.clone(), 50), expected)
