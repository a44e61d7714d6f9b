"""What shapes the latent space: functions over the posterior's mean and standard deviation, small modules."""

from .flow_probe import FlowProbe, truncated_logit_normal_times
from .gaussian import channel_kl, isotropic_kl, kl_divergence, mean_energy, rate_kbps
from .latent_noise import LatentNoise
from .sigma_vae import sigma_noise
from .soft_normalization import SoftNormalization, moment_loss
from .star import GROWTH_FUNCTIONS, growth_curve, star_loss
from .target_kl import channel_rates, target_kl_loss, target_star_loss

__all__ = [
    "GROWTH_FUNCTIONS",
    "FlowProbe",
    "LatentNoise",
    "SoftNormalization",
    "channel_kl",
    "channel_rates",
    "growth_curve",
    "isotropic_kl",
    "kl_divergence",
    "mean_energy",
    "moment_loss",
    "rate_kbps",
    "sigma_noise",
    "star_loss",
    "target_kl_loss",
    "target_star_loss",
    "truncated_logit_normal_times",
]
