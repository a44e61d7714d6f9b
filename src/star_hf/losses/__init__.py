"""Reconstruction, perceptual, adversarial and semantic losses, and the discriminator."""

from .adversarial import feature_matching_loss, hinge_discriminator_loss, hinge_generator_loss
from .caption_encoder import CaptionEncoder
from .contrastive import ContrastiveCritic
from .discriminators import DiscriminatorOutput, MultiScaleSTFTDiscriminator
from .gradient_balance import balance_gradients, gradient_norm_weight
from .phase import PhaseLoss
from .regressors import SignalRegressors, chromagram, level_difference
from .semantic import SemanticAlignment
from .semantic_teacher import SemanticTeacher
from .spectral import MultiResolutionSTFTLoss
from .stereo import stereo_correlation_loss
from .weighting import KWeighting, a_weighting_gain, k_weighting_gain

__all__ = [
    "CaptionEncoder",
    "ContrastiveCritic",
    "DiscriminatorOutput",
    "KWeighting",
    "MultiResolutionSTFTLoss",
    "MultiScaleSTFTDiscriminator",
    "PhaseLoss",
    "SemanticAlignment",
    "SemanticTeacher",
    "SignalRegressors",
    "a_weighting_gain",
    "balance_gradients",
    "chromagram",
    "feature_matching_loss",
    "gradient_norm_weight",
    "hinge_discriminator_loss",
    "hinge_generator_loss",
    "k_weighting_gain",
    "level_difference",
    "stereo_correlation_loss",
]
