"""`evaluate` module: STOI."""

from star_hf.evaluation import metric_module
from star_hf.evaluation.speech import stoi


class STOI(metric_module.WaveformMetric):
    """STOI."""

    function = staticmethod(stoi)
    description = "Short-time objective intelligibility of mono waveforms, by the package pystoi."
    citation = (
        "Taal et al., An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy "
        "Speech, 2011"
    )
    options = {
        "sampling_rate": "in Hz.",
        "extended": "ESTOI (Jensen and Taal, 2016) in place of STOI.",
    }
