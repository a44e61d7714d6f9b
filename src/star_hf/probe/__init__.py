"""The paired probe: the same small generator, trained on the latents of each autoencoder, tells them apart.

`run_probe` trains and judges, for one autoencoder or several, and gives a document for JSON; `probe_codec` is
its part for one. It needs the library's extras `train` and `eval`.
"""

from .clips import ClipPart, ClipSpan, ProbeClips, open_clips
from .flow_losses import FlowReport, marginal_loss, posterior_floor, rate_weight
from .judge import Judge
from .metrics import METRICS
from .probe import assemble_document, probe_codec, run_probe
from .settings import GENERATORS, ProbeSettings

__all__ = [
    "GENERATORS",
    "METRICS",
    "ClipPart",
    "ClipSpan",
    "FlowReport",
    "Judge",
    "ProbeClips",
    "ProbeSettings",
    "assemble_document",
    "marginal_loss",
    "open_clips",
    "posterior_floor",
    "probe_codec",
    "rate_weight",
    "run_probe",
]
