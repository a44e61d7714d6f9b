"""How latent channels go together: covariance, correlation, predictability from neighbouring channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .accumulation import checked_latents, finite_or_none, head_tail_ratio

#: A channel whose variance is below this share of its mean square is constant: float64's own error.
CONSTANT = 1e-20


@dataclass(frozen=True)
class LatentMoments:
    """Mean `(channels,)` and covariance `(channels, channels)` over `num_frames` frames, in float64."""

    mean: torch.Tensor
    covariance: torch.Tensor
    num_frames: int

    @property
    def variance(self) -> torch.Tensor:
        """Variance of each channel, `(channels,)`."""
        return self.covariance.diagonal()

    @property
    def std(self) -> torch.Tensor:
        """Standard deviation of each channel, `(channels,)`."""
        return self.variance.sqrt()

    @property
    def correlation(self) -> torch.Tensor:
        """Pearson correlation `(channels, channels)`; a constant channel correlates with no other."""
        varies = self.variance > CONSTANT * (self.mean.square() + self.variance)
        scale = torch.where(varies, self.variance, math.inf).rsqrt()
        correlation = self.covariance * scale * scale[:, None]
        return correlation.clamp(-1, 1).fill_diagonal_(1)

    @property
    def latent_correlation(self) -> float:
        r"""LC = mean of |ρ_ij| over all pairs of different channels i ≠ j: 0 independent, 1 all alike.

        ρ is Pearson's correlation over all frames of all clips, so that the clips' own means count. The mean
        |ρ| of C independent channels over N frames is not 0 but √(2 / πN).

        Raises `ValueError` for latents of one channel.
        """
        channels = self._at_least_two()
        off_diagonal = self.correlation.abs().sum() - channels
        return (off_diagonal / (channels * (channels - 1))).item()

    def predictability(self, share: float = 0.06, ridge: float = 1e-3) -> torch.Tensor:
        r"""R² of each channel from its ±r neighbours, r = ⌈share · C⌉, by ridge regression, `(channels,)`.

        For standardized channels with correlation ρ, neighbours N(c) (fewer at the ends) and target c, the
        weights are \(w = (ρ_{NN} + \text{ridge} · I)^{-1} ρ_{Nc}\) and \(R^2 = 2 w^⊤ρ_{Nc} − w^⊤ρ_{NN}w\).
        `ridge` is the penalty per frame, 1e-3 of a channel's variance by default. A constant channel has 0.

        Raises `ValueError` for a share outside (0, 1], a ridge that is not > 0, or latents of one channel.
        """
        channels = self._at_least_two()
        if not 0 < share <= 1:
            raise ValueError(f"`share` must be greater than 0 and at most 1, got {share!r}.")
        if not 0 < ridge < math.inf:
            raise ValueError(f"`ridge` must be a finite number > 0, got {ridge!r}.")
        radius, correlation = math.ceil(share * channels), self.correlation
        values = []
        for channel in range(channels):
            window = range(max(0, channel - radius), min(channels, channel + radius + 1))
            neighbours = [other for other in window if other != channel]
            among, with_target = correlation[neighbours][:, neighbours], correlation[neighbours, channel]
            weights = torch.linalg.solve(among + ridge * torch.eye(len(neighbours)).double(), with_target)
            values.append(2 * weights @ with_target - weights @ among @ weights)
        return torch.stack(values)

    def local_predictability(self, share: float = 0.06, ridge: float = 1e-3) -> float:
        """LPI_λ, λ = `share`: the mean over channels of `predictability`.

        Source: "Listens Like Mel: Boosting Latent Audio Diffusion with Channel Locality", section 3.2, with
        its λ = 0.06; it does not give its ridge.
        """
        return self.predictability(share, ridge).mean().item()

    def to_dict(self) -> dict:
        """The indices and the spread of each channel as plain numbers, for JSON."""
        return {
            "latent_correlation": self.latent_correlation,
            "local_predictability": self.local_predictability(),
            "variance_head_tail_ratio": finite_or_none(head_tail_ratio(self.variance.tolist())),
            "std_per_channel": self.std.tolist(),
            "num_frames": self.num_frames,
        }

    def _at_least_two(self) -> int:
        if len(self.mean) < 2:
            raise ValueError("`latents` has one channel: there is no other to compare it with.")
        return len(self.mean)


class LatentCovariance:
    """Adds up mean and covariance of latents of any batch size and length, in float64.

    Batches are merged around their own means (Chan, Golub and LeVeque, "Updating formulae and a pairwise
    algorithm for computing sample variances", 1979), so that a large mean costs no precision. Memory is
    channels², whatever the number of frames.
    """

    def __init__(self) -> None:
        self.mean: torch.Tensor | None = None
        self.scatter: torch.Tensor | None = None
        self.num_frames = 0

    def update(self, latents: torch.Tensor) -> LatentCovariance:
        """Add latents `(batch, channels, frames)`; returns itself.

        Raises `ValueError` for other shapes, another number of channels than before, or values that are not
        finite.
        """
        values = checked_latents(latents, None if self.mean is None else len(self.mean))
        frames = values.transpose(0, 1).flatten(1)  # (channels, batch · frames)
        count, mean = frames.shape[1], frames.mean(dim=1)
        centred = frames - mean[:, None]
        scatter = centred @ centred.T
        if self.mean is None or self.scatter is None:
            self.mean, self.scatter, self.num_frames = mean, scatter, count
            return self
        total, shift = self.num_frames + count, mean - self.mean
        self.scatter += scatter + torch.outer(shift, shift) * (self.num_frames * count / total)
        self.mean += shift * (count / total)
        self.num_frames = total
        return self

    def moments(self) -> LatentMoments:
        """Mean and covariance (divided by the number of frames) of what was seen.

        Raises `ValueError` when nothing was seen.
        """
        if self.mean is None or self.scatter is None:
            raise ValueError("No latents were added: there is nothing to measure.")
        return LatentMoments(self.mean.clone(), self.scatter / self.num_frames, self.num_frames)
