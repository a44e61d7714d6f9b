"""`evaluate` module: multi-resolution mel distance."""

from star_hf.evaluation import metric_module
from star_hf.evaluation.reconstruction import multi_resolution_mel_distance


class MultiResolutionMelDistance(metric_module.WaveformMetric):
    """Multi-resolution mel distance."""

    function = staticmethod(multi_resolution_mel_distance)
    description = (
        "Log-mel distance of waveforms over seven resolutions (windows 32 to 2048), as the "
        "Descript audio codec defines it."
    )
    citation = (
        "Kumar et al., High-Fidelity Audio Compression with Improved RVQGAN, NeurIPS 2023 (arXiv 2306.06546)"
    )
    options = {
        "sampling_rate": "in Hz.",
    }
