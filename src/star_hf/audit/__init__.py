"""The audit of audio autoencoders: what their latents carry, and how their decoders use them.

`audit_codec` measures, `write_page` and `write_json` show; `star-hf audit` does both. Reading data sets needs
the library's extra `train`, the linear probe and the pictures need its extra `eval`.
"""

from .audit import (
    AuditResult,
    AuditSettings,
    Labels,
    audit_codec,
    common_rate,
    describe_run,
)
from .clips import ClipReader, choose_clips
from .codec import Codec, as_codec
from .loading import CodecFolder, inspect_codec, load_codec
from .page import write_page
from .probe import linear_probe
from .statistics import LatentStatistics, dimensionality, gaussian_kl, monotonicity
from .writing import write_json

__all__ = [
    "AuditResult",
    "AuditSettings",
    "ClipReader",
    "Codec",
    "CodecFolder",
    "Labels",
    "LatentStatistics",
    "as_codec",
    "audit_codec",
    "choose_clips",
    "common_rate",
    "describe_run",
    "dimensionality",
    "gaussian_kl",
    "inspect_codec",
    "linear_probe",
    "load_codec",
    "monotonicity",
    "write_json",
    "write_page",
]
