"""`evaluate` module: stereo correlation error."""

from star_hf.evaluation import metric_module
from star_hf.evaluation.reconstruction_stereo import stereo_correlation_error


class StereoCorrelationError(metric_module.WaveformMetric):
    """Stereo correlation error."""

    function = staticmethod(stereo_correlation_error)
    description = (
        "Error of the short-time correlation between left and right, weighted by the reference's energy."
    )
    citation = "star-hf"
