"""What the `evaluate` modules in `metrics/` share.

A module's class is the only `evaluate.Metric` among its names: this file is imported there as a module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np
import torch

_WAVEFORM_INPUTS = """
Args:
    predictions: waveforms, each a list of channels, each a list of samples in [-1, 1].
    references: waveforms of the same shapes.{options}
Returns:
    {name}: mean over clips.
"""
_SET_INPUTS = """
Args:
    predictions: sets of embeddings, each a list of samples, each a list of numbers; usually one set.
    references: as many sets, of any number of samples.{options}
Returns:
    {name}: mean over sets.
"""
_LOGITS_INPUTS = """
Args:
    predictions: logits, one list of classes per clip.
    references: logits of the same clips' references.{options}
Returns:
    {name}: mean over clips.
"""


class _Metric(evaluate.Metric):
    """Computes `function(prediction, reference, **options)` item by item and averages."""

    function: ClassVar[Callable[..., Any]]
    description: ClassVar[str]
    citation: ClassVar[str]
    options: ClassVar[dict[str, str]] = {}
    inputs: ClassVar[str]
    feature: ClassVar[Any]

    def _info(self):
        options = "".join(f"\n    {name}: {meaning}" for name, meaning in self.options.items())
        return evaluate.MetricInfo(
            description=self.description,
            citation=self.citation,
            inputs_description=self.inputs.format(name=self.function.__name__, options=options),
            features=datasets.Features({"predictions": self.feature, "references": self.feature}),
        )

    def _compute(self, predictions, references, **options):
        results = [
            self._measure(prediction, reference, **options)
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return {name: float(np.mean([result[name] for result in results])) for name in results[0]}

    def _measure(self, prediction, reference, **options) -> dict[str, float]:
        return dict(self._named(self.function(*self._convert(prediction, reference), **options)))

    def _convert(self, prediction, reference) -> tuple[Any, Any]:
        return torch.tensor(prediction)[None], torch.tensor(reference)[None]

    def _named(self, result) -> Iterator[tuple[str, float]]:
        yield self.function.__name__, float(result)


class WaveformMetric(_Metric):
    """A metric of waveforms `(channels, samples)`."""

    inputs = _WAVEFORM_INPUTS
    feature = datasets.Sequence(datasets.Sequence(datasets.Value("float32")))


class LogitsMetric(_Metric):
    """A metric of logits `(classes,)`."""

    inputs = _LOGITS_INPUTS
    feature = datasets.Sequence(datasets.Value("float32"))


class SetMetric(_Metric):
    """A distance of sets of embeddings `(samples, dimensions)`."""

    inputs = _SET_INPUTS
    feature = datasets.Sequence(datasets.Sequence(datasets.Value("float64")))

    def _convert(self, prediction, reference):
        return np.asarray(prediction), np.asarray(reference)
