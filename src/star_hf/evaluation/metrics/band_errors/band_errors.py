"""`evaluate` module: band errors."""

from star_hf.evaluation import metric_module
from star_hf.evaluation.reconstruction_bands import band_errors, named_bands


class BandErrors(metric_module.WaveformMetric):
    """Band errors."""

    function = staticmethod(band_errors)
    description = "Spectral error of frequency bands in dB, absolute and signed."
    citation = "STAR-VAE (arXiv 2606.23064), Figure 3c"
    options = {
        "sampling_rate": "in Hz.",
        "bands": "edges in Hz, or a number of mel bands.",
    }

    def _named(self, result):
        yield from named_bands(result)
