"""The switch that says what shapes the latents, and its settings."""

from dataclasses import dataclass

import torch

from engine.arguments import option
from star_hf.regularizers import isotropic_kl, star_loss, target_kl_loss, target_star_loss

#: Penalties on the KL of a Gaussian posterior.
KL_REGULARIZERS = ("isotropic", "star", "target_kl", "target_kl_star")
#: Bottleneck of the autoencoder that each of them needs.
BOTTLENECKS = {
    **dict.fromkeys(KL_REGULARIZERS, "gaussian"),
    "sigma_vae": "sigma",
    "soft_normalization": "soft_normalization",
}


@dataclass
class RegularizerArguments:
    name: str = option(
        "isotropic",
        "isotropic: one β; star: β grows over the channels; target_kl: a set rate; target_kl_star: a set "
        "rate, divided among the channels as 1/β; sigma_vae: means alone, noise of a set size; "
        "soft_normalization: normalized means, no noise",
    )
    beta: float = option(1e-6, "isotropic: β")
    beta_min: float = option(1e-4, "star: β of the first channel")
    beta_max: float = option(4e-4, "star: β of the last channel")
    growth: str = option("gamma", "star: gamma, linear or step")
    gamma: float = option(2.0, "star: exponent of the gamma curve")
    warmup_steps: int = option(0, "linear warm-up of all β, or of the target's weight, from 0")
    target_kbps: float | None = option(None, "target_kl: the rate in kbit/s")
    target_weight: float = option(10.0, "target_kl: weight of the squared relative deviation")
    sigma: float = option(
        0.5, "sigma_vae: scale of the noise, whose size is drawn per clip from N(0, sigma²)"
    )
    channel_moment_weight: float = option(0.4, "soft_normalization: weight of the moments over channels")

    @property
    def bottleneck(self) -> dict[str, str | float]:
        """What `AutoencoderStar` must be told to have the posterior of this regularizer."""
        settings: dict[str, str | float] = {"bottleneck": BOTTLENECKS[self.name]}
        if self.name == "sigma_vae":
            settings["sigma"] = self.sigma
        return settings

    def kl(self, mean: torch.Tensor, std: torch.Tensor, frame_rate: float) -> torch.Tensor:
        """The penalty on a Gaussian posterior `(batch, channels, frames)`, a scalar."""
        curve = (self.beta_min, self.beta_max, self.growth, self.gamma)
        if self.name == "isotropic":
            return isotropic_kl(mean, std, self.beta)
        if self.name == "star":
            return star_loss(mean, std, *curve)
        target = (self.target_kbps, frame_rate, self.target_weight)
        if self.name == "target_kl":
            return target_kl_loss(mean, std, *target)
        return target_star_loss(mean, std, *target, *curve)

    def check(self) -> None:
        """Raise `ValueError` for settings that the chosen regularizer cannot work with."""
        if self.name not in BOTTLENECKS:
            raise ValueError(f"regularizer.name must be one of {', '.join(BOTTLENECKS)}, got {self.name!r}")
        if self.name.startswith("target_kl") and self.target_kbps is None:
            raise ValueError(
                f"regularizer.name {self.name!r} needs regularizer.target_kbps, a rate in kbit/s"
            )
        if self.name in KL_REGULARIZERS:
            # refuses what is out of its range, by name
            try:
                self.kl(torch.zeros(1, 2, 1), torch.ones(1, 2, 1), 1.0)
            except ValueError as error:
                raise ValueError(f"regularizer: {error}") from None
        for name in ("sigma", "channel_moment_weight"):
            if not getattr(self, name) > 0:
                raise ValueError(f"regularizer.{name} must be greater than 0, got {getattr(self, name)}")
