"""`evaluate` module: scale-invariant signal-to-distortion ratio. `evaluate.load("path/to/si_sdr")`."""

import datasets
import evaluate
import torch

from star_hf.evaluation.reconstruction import si_sdr

_DESCRIPTION = "Scale-invariant signal-to-distortion ratio of waveforms in dB; more is better."
_CITATION = "Le Roux et al., SDR - half-baked or well done?, ICASSP 2019 (arXiv 1811.02508)"
_INPUTS = """
Args:
    predictions: waveforms, each a list of channels, each a list of samples in [-1, 1].
    references: waveforms of the same shapes.
Returns:
    si_sdr: mean over clips, in dB.
"""


class SISDR(evaluate.Metric):
    def _info(self):
        waveform = datasets.Sequence(datasets.Sequence(datasets.Value("float32")))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": waveform, "references": waveform}),
        )

    def _compute(self, predictions, references):
        ratios = [
            si_sdr(torch.tensor(prediction)[None], torch.tensor(reference)[None]).item()
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return {"si_sdr": sum(ratios) / len(ratios)}
