"""`evaluate` module: tag divergence."""

from star_hf.evaluation import metric_module
from star_hf.evaluation.distribution_pairs import tag_divergence


class TagDivergence(metric_module.LogitsMetric):
    """Tag divergence."""

    function = staticmethod(tag_divergence)
    description = "KL(prediction || reference) in nats between the tag posteriors of two sets of clips."
    citation = "Kreuk et al., AudioGen, ICLR 2023 (arXiv 2209.15352)"
    options = {
        "activation": "softmax (default) or sigmoid.",
        "epsilon": "added to the reference's posterior, 1e-6 by default.",
    }
