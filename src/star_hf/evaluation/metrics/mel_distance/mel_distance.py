"""`evaluate` module: mel distance."""

from star_hf.evaluation import metric_module
from star_hf.evaluation.reconstruction import mel_distance


class MelDistance(metric_module.WaveformMetric):
    """Mel distance."""

    function = staticmethod(mel_distance)
    description = (
        "Mel spectral distance of waveforms (FFT 1024, hop 256, 128 bands) as auraloss 0.4 measures it."
    )
    citation = "Yamamoto et al., Parallel WaveGAN, ICASSP 2020 (arXiv 1910.11480)"
    options = {
        "sampling_rate": "in Hz, 44100 by default.",
    }
