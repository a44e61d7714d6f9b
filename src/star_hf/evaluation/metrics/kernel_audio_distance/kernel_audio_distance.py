"""`evaluate` module: kernel audio distance."""

from star_hf.evaluation import metric_module
from star_hf.evaluation.distribution_kernel import kernel_audio_distance


class KernelAudioDistance(metric_module.SetMetric):
    """Kernel audio distance."""

    function = staticmethod(kernel_audio_distance)
    description = "100 times the unbiased squared MMD of two sets of embeddings, with a Gaussian kernel."
    citation = "Chung et al., KAD: No More FAD!, 2025 (arXiv 2502.15602)"
    options = {
        "bandwidth": "of the kernel; by default the median distance between samples of the reference.",
        "scale": "100 by default.",
    }
