"""Proposition 1 of LAFA: what spans and a smoothing inpainting penalize, by enumeration in float64."""

import pytest
import torch

C, W = 16, 5
EYE = torch.eye(C, dtype=torch.float64)


def circulant(kernel: dict[int, float]) -> torch.Tensor:
    """The circulant matrix with these numbers at these offsets from the diagonal."""
    return sum(value * torch.roll(EYE, offset, dims=1) for offset, value in kernel.items())


def response(smoother: torch.Tensor) -> torch.Tensor:
    return torch.fft.fft(smoother[:, 0])


def hidden_on_the_ring() -> list[torch.Tensor]:
    """I - M for every span of W channels on the ring."""
    return [torch.diag(torch.roll((torch.arange(C) < W).double(), start)) for start in range(C)]


def gamma(smoother: torch.Tensor, hidden: list[torch.Tensor]) -> torch.Tensor:
    """Mean of (A_M - I)^T (A_M - I) with A_M = M + (I - M) S."""
    errors = [EYE - h + h @ smoother - EYE for h in hidden]
    return sum(error.T @ error for error in errors) / len(errors)


BINOMIAL = circulant({-1: 0.25, 0: 0.5, 1: 0.25})
MEAN_OF_FIVE = circulant(dict.fromkeys(range(-2, 3), 0.2))


@pytest.mark.parametrize("smoother", [BINOMIAL, MEAN_OF_FIVE], ids=["binomial", "mean of five"])
def test_the_loss_is_a_circulant_form_with_the_filters_eigenvalues(smoother):
    z = torch.randn(C, dtype=torch.float64)
    losses = [((z - h @ z + h @ smoother @ z) - z).square().sum() for h in hidden_on_the_ring()]
    form = gamma(smoother, hidden_on_the_ring())
    torch.testing.assert_close(z @ form @ z, torch.stack(losses).mean())
    torch.testing.assert_close(torch.roll(form, (1, 1), dims=(0, 1)), form)
    # not "about", but equal; |z_k|² is that of the orthonormal transform
    eigenvalues = W / C * (1 - response(smoother)).abs().square()
    torch.testing.assert_close(torch.fft.fft(form[:, 0]).real, eigenvalues)
    power = torch.fft.fft(z, norm="ortho").abs().square()
    torch.testing.assert_close((eigenvalues * power).sum(), torch.stack(losses).mean())


def test_the_penalty_grows_with_the_frequency_where_the_response_falls():
    frequency = torch.arange(C // 2 + 1, dtype=torch.float64) / C
    torch.testing.assert_close(
        response(BINOMIAL)[: C // 2 + 1].real, torch.cos(torch.pi * frequency).square()
    )
    growing = (1 - response(BINOMIAL)[: C // 2 + 1]).abs().square()
    assert growing[0] < 1e-20 and (growing.diff() > 0).all()
    # a moving average has side lobes, and so has its penalty
    assert ((1 - response(MEAN_OF_FIVE)[: C // 2 + 1]).abs().square().diff() < 0).any()


def test_the_order_of_factors_in_print_is_an_approximation():
    """(I - M)(S - I)^T (S - I)(I - M) cuts the smoother's kernel at the ends of the span.

    For the binomial smoother that lifts the eigenvalue of the mean by 1 / (4 C) and lowers the highest one by
    3 / (4 C), a share of 3 / (4 W).
    """
    inner = (BINOMIAL - EYE).T @ (BINOMIAL - EYE)
    printed = sum(h @ inner @ h for h in hidden_on_the_ring()) / C
    difference = (
        torch.fft.fft(printed[:, 0]).real - torch.fft.fft(gamma(BINOMIAL, hidden_on_the_ring())[:, 0]).real
    )
    expected = torch.tensor([1 / (4 * C), -3 / (4 * C)], dtype=torch.float64)
    torch.testing.assert_close(difference[[0, C // 2]], expected)
    assert difference.abs().max() <= 3 / (4 * C) + 1e-12


def test_spans_that_do_not_wrap_give_no_circulant_form():
    """The masks that training draws: Γ = (S - I)^T diag(p) (S - I), with p as small as 1 / (C - W + 1)."""
    hidden = hidden_on_the_ring()[: C - W + 1]
    form = gamma(BINOMIAL, hidden)
    share = sum(h.diagonal() for h in hidden) / len(hidden)
    torch.testing.assert_close(form, (BINOMIAL - EYE).T @ torch.diag(share) @ (BINOMIAL - EYE))
    assert share.min() == 1 / (C - W + 1) and share.max() == W / (C - W + 1)
    assert form[C // 2, C // 2] > 4 * form[0, 0]
