"""`evaluate` module: STFT distance."""

from star_hf.evaluation import metric_module
from star_hf.evaluation.reconstruction import stft_distance


class STFTDistance(metric_module.WaveformMetric):
    """STFT distance."""

    function = staticmethod(stft_distance)
    description = (
        "Multi-resolution STFT distance of waveforms with auraloss 0.4's default settings; 0 for equal ones."
    )
    citation = "Yamamoto et al., Parallel WaveGAN, ICASSP 2020 (arXiv 1910.11480)"
