"""Flow matching: the path from noise to latents, its loss, and guidance at sampling time."""

from .guidance import classifier_free_guidance
from .path import flow_matching_loss, interpolate, sample_times, velocity_target

__all__ = [
    "classifier_free_guidance",
    "flow_matching_loss",
    "interpolate",
    "sample_times",
    "velocity_target",
]
