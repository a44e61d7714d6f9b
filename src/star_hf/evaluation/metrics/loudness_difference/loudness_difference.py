"""`evaluate` module: loudness difference."""

from star_hf.evaluation import metric_module
from star_hf.evaluation.loudness import loudness_difference


class LoudnessDifference(metric_module.WaveformMetric):
    """Loudness difference."""

    function = staticmethod(loudness_difference)
    description = "Integrated loudness of the prediction minus the reference's in LU, after ITU-R BS.1770."
    citation = "ITU-R BS.1770-5, annex 1 (2023)"
    options = {
        "sampling_rate": "in Hz.",
    }
