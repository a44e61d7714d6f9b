"""`evaluate` module: multi-resolution STFT distance. `evaluate.load("path/to/stft_distance")`."""

import datasets
import evaluate
import torch

from star_hf.evaluation.reconstruction import stft_distance

_DESCRIPTION = (
    "Multi-resolution STFT distance of waveforms with auraloss 0.4's default settings; 0 for equal ones."
)
_CITATION = "Yamamoto et al., Parallel WaveGAN, ICASSP 2020 (arXiv 1910.11480)"
_INPUTS = """
Args:
    predictions: waveforms, each a list of channels, each a list of samples in [-1, 1].
    references: waveforms of the same shapes.
Returns:
    stft_distance: mean over clips.
"""


class STFTDistance(evaluate.Metric):
    def _info(self):
        waveform = datasets.Sequence(datasets.Sequence(datasets.Value("float32")))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": waveform, "references": waveform}),
        )

    def _compute(self, predictions, references):
        distances = [
            stft_distance(torch.tensor(prediction)[None], torch.tensor(reference)[None]).item()
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return {"stft_distance": sum(distances) / len(distances)}
