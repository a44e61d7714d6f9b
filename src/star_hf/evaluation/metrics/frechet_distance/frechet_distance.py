"""`evaluate` module: fréchet distance."""

from star_hf.evaluation import metric_module
from star_hf.evaluation.distribution import frechet_distance


class FrechetDistance(metric_module.SetMetric):
    """Fréchet distance."""

    function = staticmethod(frechet_distance)
    description = (
        "Fréchet distance of two sets of embeddings, in float64, stable for fewer samples than dimensions."
    )
    citation = "Kilgour et al., Fréchet Audio Distance, Interspeech 2019 (arXiv 1812.08466)"
