"""Flow matching: the path from noise to latents, its loss, and guidance at sampling time."""

from .guidance import classifier_free_guidance
from .path import (
    flow_matching_loss,
    interpolate,
    logit_normal_times,
    sample_times,
    velocity_target,
)
from .v_prediction import rotate, v_target

__all__ = [
    "classifier_free_guidance",
    "flow_matching_loss",
    "interpolate",
    "logit_normal_times",
    "rotate",
    "sample_times",
    "v_target",
    "velocity_target",
]
