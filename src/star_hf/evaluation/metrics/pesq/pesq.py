"""`evaluate` module: PESQ."""

from star_hf.evaluation import metric_module
from star_hf.evaluation.speech import pesq


class PESQ(metric_module.WaveformMetric):
    """PESQ."""

    function = staticmethod(pesq)
    description = (
        "Perceptual evaluation of speech quality of mono waveforms at 8 or 16 kHz, by the package pesq."
    )
    citation = "ITU-T P.862 (2001) and P.862.2 (2007)"
    options = {
        "sampling_rate": "8000 (narrow band) or 16000 Hz (wide band).",
    }
