"""Reconstruction and adversarial losses, and the discriminator."""

from .adversarial import feature_matching_loss, hinge_discriminator_loss, hinge_generator_loss
from .discriminators import DiscriminatorOutput, MultiScaleSTFTDiscriminator
from .spectral import MultiResolutionSTFTLoss, a_weighting_gain

__all__ = [
    "DiscriminatorOutput",
    "MultiResolutionSTFTLoss",
    "MultiScaleSTFTDiscriminator",
    "a_weighting_gain",
    "feature_matching_loss",
    "hinge_discriminator_loss",
    "hinge_generator_loss",
]
