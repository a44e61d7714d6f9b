"""`evaluate` module: SI-SDR."""

from star_hf.evaluation import metric_module
from star_hf.evaluation.reconstruction import si_sdr


class SISDR(metric_module.WaveformMetric):
    """SI-SDR."""

    function = staticmethod(si_sdr)
    description = "Scale-invariant signal-to-distortion ratio of waveforms in dB; more is better."
    citation = "Le Roux et al., SDR - half-baked or well done?, ICASSP 2019 (arXiv 1811.02508)"
