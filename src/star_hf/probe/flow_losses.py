r"""What a flow-matching loss is worth: the losses of predictors that know nothing, or everything but noise.

On the path z_t = (1 - t) z_0 + t z_1 with z_0 ~ N(0, 1) the target is u = z_1 - z_0. For a latent z_1 ~ N(μ,
σ²) of known mean, independent of all others, u and z_t are jointly Gaussian with Var u = 1 + σ², Var z_t =
t²σ² + (1 - t)² and Cov(u, z_t) = tσ² - (1 - t), so that the least mean squared error is

    Var u - Cov(u, z_t)² / Var z_t = σ² / (t²σ² + (1 - t)²).

Standardized latents of which nothing is known have μ = 0, σ = 1, and the bound is 1 / (t² + (1 - t)²); for
latents of unit variance that are not Gaussian it is the loss of the best affine predictor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

QUARTERS = 4
#: The rate counts the latents up to this time, where signal to noise is (t / (1 - t))² = 81, 19 dB.
RATE_END = 0.9
SMALLEST_RANGE = 1e-3


def marginal_loss(t: torch.Tensor) -> torch.Tensor:
    """Least flow loss at times t for independent latents N(0, 1): 1 / (t² + (1 - t)²)."""
    return 1 / (t.square() + (1 - t).square())


def posterior_floor(t: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Least flow loss at times t where all but the posterior's noise of deviation `std` is known.

    σ² / (t²σ² + (1 - t)²); 0 for σ = 0. Shapes are broadcast.
    """
    variance = std.square()
    return variance / (t.square() * variance + (1 - t).square())


def rate_weight(t: torch.Tensor) -> torch.Tensor:
    r"""∫_0^t s / (1 - s) ds = -ln(1 - t) - t, what a loss weighs in a rate.

    Told through noise of signal-to-noise ratio r = t² / (1 - t)², an estimate with mean squared error e(r)
    costs ½ ∫ e dr nats (Guo, Shamai and Verdú, 2005). A velocity is the estimate of z_1 over 1 - t, so e is
    (1 - t)² times the flow loss, and ½ dr = t / (1 - t)³ dt. The difference of the losses of a generator and
    of `posterior_floor` so gives the KL divergence from its latents to the posterior, of latents to which
    noise of RATE_END has been added; up to t = 1, that of the latents themselves. For independent N(0, 1)
    latents without posterior noise it is ½ ln(1 + r).
    """
    return -torch.log1p(-t) - t


@dataclass(frozen=True)
class FlowReport:
    """Validation losses; see `metrics.METRICS` for what they mean. Quarters go from noise to data.

    The reducible loss is None where the latents are the posterior's noise and nothing else.
    """

    flow_loss: float
    relative_flow_loss: float
    relative_flow_loss_by_time: list[float]
    reducible_flow_loss: float | None
    reducible_flow_loss_by_time: list[float | None]
    unpredicted_rate: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def shuffled_quantiles(count: int, seed: int = 0) -> torch.Tensor:
    """`count` evenly spaced numbers between 0 and 1, the middles of as many strata, dealt out at random."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return (order + 0.5) / count


def logit_normal_quantiles(quantiles: torch.Tensor) -> torch.Tensor:
    """The times of these quantiles of logit(t) ~ N(0, 1)."""
    return torch.sigmoid(torch.special.ndtri(quantiles.double()))


def flow_report(
    losses: torch.Tensor,
    floors: torch.Tensor,
    quantiles: torch.Tensor,
    frames: Sequence[int],
    numbers_per_second: float,
) -> FlowReport:
    """Sum up losses that were measured at the strata of `shuffled_quantiles`.

    Args:
        losses, floors: `(draws,)`, mean squared error of each draw and its `posterior_floor`.
        quantiles: of each draw's time.
        frames: of each draw's clip; a loss weighs as many.
        numbers_per_second: channels times frame rate.
    """
    losses, floors, quantiles = losses.double(), floors.double(), quantiles.double()
    weights = torch.tensor(frames, dtype=torch.float64)
    marginals = marginal_loss(logit_normal_quantiles(quantiles))

    def shares(drawn: torch.Tensor) -> tuple[float, float, float | None]:
        own = weights[drawn]
        loss, floor, marginal = ((own * values[drawn]).sum() for values in (losses, floors, marginals))
        span = marginal - floor
        reducible = ((loss - floor) / span).item() if span > SMALLEST_RANGE * marginal else None
        return (loss / own.sum()).item(), (loss / marginal).item(), reducible

    everything = torch.ones_like(quantiles, dtype=torch.bool)
    quarters = [shares(quantiles * QUARTERS // 1 == number) for number in range(QUARTERS)]
    loss, relative, reducible = shares(everything)
    rate = (_stratum_weights(quantiles) * (losses - floors)).sum().item() * numbers_per_second
    return FlowReport(
        flow_loss=loss,
        relative_flow_loss=relative,
        relative_flow_loss_by_time=[quarter[1] for quarter in quarters],
        reducible_flow_loss=reducible,
        reducible_flow_loss_by_time=[quarter[2] for quarter in quarters],
        unpredicted_rate=rate / math.log(2) / 1000,
    )


def _stratum_weights(quantiles: torch.Tensor) -> torch.Tensor:
    """How much of the rate's integral falls into the stratum around each quantile."""
    half = 0.5 / len(quantiles)
    edges = [logit_normal_quantiles((quantiles + side).clamp(0, 1)) for side in (-half, half)]
    low, high = (rate_weight(edge.clamp(max=RATE_END)) for edge in edges)
    return high - low
