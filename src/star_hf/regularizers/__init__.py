"""What shapes the latent space: pure functions over the posterior's mean and standard deviation."""

from .gaussian import channel_kl, isotropic_kl, kl_divergence, rate_kbps
from .star import GROWTH_FUNCTIONS, growth_curve, star_loss

__all__ = [
    "GROWTH_FUNCTIONS",
    "channel_kl",
    "growth_curve",
    "isotropic_kl",
    "kl_divergence",
    "rate_kbps",
    "star_loss",
]
