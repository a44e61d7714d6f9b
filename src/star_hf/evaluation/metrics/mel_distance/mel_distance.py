"""`evaluate` module: mel distance. `evaluate.load("path/to/mel_distance")`."""

import datasets
import evaluate
import torch

from star_hf.evaluation.reconstruction import mel_distance

_DESCRIPTION = (
    "Mel spectral distance of waveforms (FFT 1024, hop 256, 128 bands) as auraloss 0.4 measures it."
)
_CITATION = "Yamamoto et al., Parallel WaveGAN, ICASSP 2020 (arXiv 1910.11480)"
_INPUTS = """
Args:
    predictions: waveforms, each a list of channels, each a list of samples in [-1, 1].
    references: waveforms of the same shapes.
    sampling_rate: in Hz.
Returns:
    mel_distance: mean over clips.
"""


class MelDistance(evaluate.Metric):
    def _info(self):
        waveform = datasets.Sequence(datasets.Sequence(datasets.Value("float32")))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": waveform, "references": waveform}),
        )

    def _compute(self, predictions, references, sampling_rate=44100):
        distances = [
            mel_distance(torch.tensor(prediction)[None], torch.tensor(reference)[None], sampling_rate).item()
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return {"mel_distance": sum(distances) / len(distances)}
