"""Numbers of a latent space that need no decoder, added up over any amount of audio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..evaluation.accumulation import checked_latents, eighth_means, finite_or_none, head_tail_ratio
from ..evaluation.latent_capacity import channel_capacity
from ..evaluation.latent_covariance import LatentCovariance, LatentMoments as Covariance
from ..evaluation.latent_spectrum import LatentSpectrum
from ..evaluation.latents import ChannelKL
from ..generation.vae_interface import LatentMoments

VARIANCE_SHARE = 0.95
LOCALITY_SHARE = 0.06


class LatentStatistics:
    """Adds up what the audit says of latents; memory is channels², whatever the length of the audio.

    Args:
        channels, frame_rate: of the latents, frames per second.
        noise_std: the noise that latents without KL were designed for; see `Codec.noise_std`.
    """

    def __init__(
        self, channels: int, frame_rate: float, noise_std: float | torch.Tensor | None = None
    ) -> None:
        self.channels = channels
        self.frame_rate = frame_rate
        self.noise_std = noise_std
        self.kind: str | None = None
        self.kl = ChannelKL()
        self.covariance = LatentCovariance()
        self.spectrum = LatentSpectrum() if channels > 1 else None
        self.noise_variance = torch.zeros(channels, dtype=torch.float64)
        self.squared_steps = torch.zeros(channels, dtype=torch.float64)
        self.num_steps = 0

    def update(self, moments: LatentMoments) -> LatentStatistics:
        """Add the latents of one stretch of audio, `(batch, channels, frames)`; returns itself.

        Raises `ValueError` for values that are not finite, or another number of channels.
        """
        mean = checked_latents(moments.mean, self.channels)
        self.kind = moments.kind
        if moments.kind == "gaussian":
            self.kl.update(moments.mean, moments.std)
        self.noise_variance += moments.std.double().square().sum(dim=(0, 2))
        self.covariance.update(mean)
        if self.spectrum is not None:
            self.spectrum.update(mean)
        self.squared_steps += mean.diff(dim=-1).square().sum(dim=(0, 2))
        self.num_steps += mean.shape[0] * (mean.shape[2] - 1)
        return self

    def moments(self) -> Covariance:
        """Mean and covariance of the posteriors' means. Raises `ValueError` if nothing was added."""
        return self.covariance.moments()

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for JSON; what is not defined for these latents is None, with a reason in `notes`.

        Raises `ValueError` when fewer than two neighbouring frames were seen.
        """
        moments = self.moments()
        if self.num_steps == 0:
            raise ValueError("A latent space is measured over two frames or more; no clip had as many.")
        notes: list[str] = []
        report = {
            "posterior": self.kind,
            "num_frames": moments.num_frames,
            "frame_rate": self.frame_rate,
            "channels": self.channels,
            "profile": self._profile(moments, notes),
            "mean_per_channel": moments.mean.tolist(),
            "std_per_channel": moments.std.tolist(),
            **self._locality(moments, notes),
            **dimensionality(moments.covariance),
            **self._smoothness(moments),
            **self._aggregate(moments, notes),
        }
        return {**report, "notes": notes}

    def _profile(self, moments: Covariance, notes: list[str]) -> dict[str, Any]:
        """What each channel carries: KL, else capacity at the designed noise, else its variance."""
        nats: Sequence[float] | None = None
        if self.kind == "gaussian":
            kind, nats = "KL", self.kl.profile(self.frame_rate).kl_per_channel
        elif self.noise_std is not None:
            kind = "capacity"
            capacity = channel_capacity(moments.variance, self.noise_std, self.frame_rate)
            nats = [bits * math.log(2) for bits in capacity.bits_per_channel]
            notes.append(
                "The posterior has no KL: the profile is the capacity of a Gaussian channel with the noise "
                "that the model was designed for."
            )
        else:
            kind = "variance"
            notes.append(
                "The latents are points without designed noise: they have neither KL nor rate, and the "
                "profile is each channel's variance."
            )
        values = moments.variance.tolist() if nats is None else list(nats)
        total = None if nats is None else math.fsum(nats) / math.log(2)
        return {
            "kind": kind,
            "nats_per_channel": None if nats is None else values,
            "bits_per_channel": None if nats is None else [value / math.log(2) for value in values],
            "values": values,
            "eighths": list(eighth_means(values)),
            "bits_per_frame": total,
            "rate_kbps": None if total is None else total * self.frame_rate / 1000,
            "head_tail_ratio": finite_or_none(head_tail_ratio(values)),
            **monotonicity(values),
        }

    def _locality(self, moments: Covariance, notes: list[str]) -> dict[str, Any]:
        report: dict[str, Any] = dict.fromkeys(
            ("latent_correlation", "local_predictability", "spectral_decay", "radial_power")
        )
        if self.spectrum is None:
            notes.append("One channel has no others to be compared with.")
            return report
        report["latent_correlation"] = moments.latent_correlation
        report["local_predictability"] = moments.local_predictability(LOCALITY_SHARE)
        if self.spectrum.num_windows == 0:
            notes.append(f"No piece of audio has {self.channels} frames, so that α has no square window.")
            return report
        spectrum = self.spectrum.spectrum()
        report["spectral_decay"] = finite_or_none(spectrum.spectral_decay)
        report["radial_power"] = list(spectrum.power)
        report["radial_frequencies"] = spectrum.frequencies.tolist()
        return report

    def _smoothness(self, moments: Covariance) -> dict[str, Any]:
        r"""Von Neumann's ratio: mean (z_{t+1} − z_t)² / 2 var(z); 1 for white noise, 0 for a still line."""
        variance, ratios = moments.variance, self.squared_steps / self.num_steps
        floor = 1e-20 * (moments.mean.square() + variance)
        values = [
            (step / (2 * spread)).item() if spread > low else None
            for step, spread, low in zip(ratios, variance, floor, strict=True)
        ]
        defined = [value for value in values if value is not None]
        return {
            "temporal_difference_ratio": sum(defined) / len(defined) if defined else None,
            "temporal_difference_ratio_per_channel": values,
        }

    def _aggregate(self, moments: Covariance, notes: list[str]) -> dict[str, Any]:
        noise = (self.noise_variance / moments.num_frames).diag()
        distance = gaussian_kl(moments.mean, moments.covariance + noise)
        if distance is None:
            notes.append(
                "The Gaussian fitted to all latents has no volume (too few frames, or channels that depend "
                "on each other): its KL from N(0, I) is infinite."
            )
        per_channel = None if distance is None else distance / self.channels
        return {"aggregate_kl": distance, "aggregate_kl_per_channel": per_channel}


def monotonicity(values: Sequence[float]) -> dict[str, float | None]:
    """How well a profile falls with the channel index.

    `rank_correlation` is Spearman's between index and value: -1 falls throughout, 0 has no order;
    `falling_share` is the share of neighbouring pairs of which the second is lower. None for one channel, and
    the correlation of equal values.
    """
    if len(values) < 2:
        return {"rank_correlation": None, "falling_share": None}
    from scipy.stats import rankdata

    series = np.asarray(values, dtype=np.float64)
    correlation = None
    if series.min() < series.max():
        correlation = float(np.corrcoef(np.arange(len(series)), rankdata(series))[0, 1])
    return {"rank_correlation": correlation, "falling_share": float((np.diff(series) < 0).mean())}


def dimensionality(covariance: torch.Tensor) -> dict[str, Any]:
    """How many directions the latents use, from the eigenvalues λ of their covariance `(channels, channels)`.

    `effective_dimensions` is the least number of principal components with 95% of the variance,
    `participation_ratio` is (Σλ)² / Σλ², and `explained_variance` the cumulated share of each component.
    """
    eigenvalues = torch.linalg.eigvalsh(covariance.double()).flip(0).clamp_min(0)
    total = eigenvalues.sum().item()
    if total == 0:
        return {"effective_dimensions": 0, "participation_ratio": 0.0, "explained_variance": []}
    explained = eigenvalues.cumsum(0) / total
    needed = int((explained < VARIANCE_SHARE - 1e-12).sum()) + 1
    return {
        "effective_dimensions": min(needed, len(eigenvalues)),
        "participation_ratio": total**2 / eigenvalues.square().sum().item(),
        "explained_variance": explained.tolist(),
    }


def gaussian_kl(mean: torch.Tensor, covariance: torch.Tensor) -> float | None:
    r"""KL(N(μ, Σ) ‖ N(0, I)) = ½(tr Σ + μ^⊤μ − C − ln det Σ) in nats; None where Σ is singular."""
    covariance, mean = covariance.double(), mean.double()
    eigenvalues = torch.linalg.eigvalsh(covariance)
    if eigenvalues[0] <= 1e-12 * eigenvalues[-1] or eigenvalues[-1] <= 0:
        return None
    trace = covariance.trace() + mean.square().sum() - len(mean)
    return 0.5 * (trace - eigenvalues.log().sum()).item()
