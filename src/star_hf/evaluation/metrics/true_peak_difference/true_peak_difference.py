"""`evaluate` module: true-peak difference."""

from star_hf.evaluation import metric_module
from star_hf.evaluation.loudness import true_peak_difference


class TruePeakDifference(metric_module.WaveformMetric):
    """True-peak difference."""

    function = staticmethod(true_peak_difference)
    description = (
        "True peak of the prediction minus the reference's in dB, at four times the rate, after "
        "ITU-R BS.1770."
    )
    citation = "ITU-R BS.1770-5, annex 2 (2023)"
    options = {
        "sampling_rate": "in Hz.",
    }
