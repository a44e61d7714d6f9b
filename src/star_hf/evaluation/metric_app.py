"""The page of a metric's Space: two files in, the value out. Needs gradio."""

from __future__ import annotations

import json

import evaluate
import numpy as np

from ..audio import read_audio
from .metric_paths import metric_path
from .optional_packages import import_for
from .waveform_checks import prepare_pair

TABLE_METRICS = ("frechet_distance", "kernel_audio_distance", "tag_divergence")


def build_app(name: str):
    """A `gradio.Interface` that computes the `evaluate` module `name` on two files.

    Audio files, or `.npy` files of embeddings or logits. Raises `ImportError` without gradio.
    """
    gradio = import_for("the page of a metric", "gradio", "pip install gradio")
    metric = evaluate.load(metric_path(name))
    of_tables = name in TABLE_METRICS
    takes_rate = "sampling_rate" in metric.inputs_description

    def compute(prediction: str, reference: str, convert: bool = False) -> str:
        try:
            result = (
                measure_tables(metric, prediction, reference)
                if of_tables
                else measure_audio(metric, prediction, reference, convert, takes_rate)
            )
        except (ValueError, TypeError, OSError) as error:
            raise gradio.Error(str(error)) from error
        return json.dumps(result, indent=2)

    if of_tables:
        inputs = [gradio.File(label=label, file_types=[".npy"]) for label in ("Prediction", "Reference")]
    else:
        inputs = [gradio.Audio(label=label, type="filepath") for label in ("Prediction", "Reference")]
        inputs.append(
            gradio.Checkbox(label="Convert the prediction to the reference's rate, channels, length")
        )
    return gradio.Interface(
        fn=compute,
        inputs=inputs,
        outputs=gradio.Textbox(label=name),
        title=name,
        description=metric.description,
        article=metric.inputs_description,
    )


def measure_audio(
    metric: evaluate.EvaluationModule, prediction: str, reference: str, convert: bool, takes_rate: bool
) -> dict[str, float]:
    """Compute a metric of waveforms on two audio files; `convert` allows `prepare_pair` to convert."""
    (predicted, predicted_rate), (wanted, wanted_rate) = read_audio(prediction), read_audio(reference)
    policy = {"resample": "reference", "channels": "reference", "lengths": "reference"} if convert else {}
    pair = prepare_pair(predicted, wanted, predicted_rate, wanted_rate, **policy)
    options = {"sampling_rate": pair.sampling_rate} if takes_rate else {}
    return metric.compute(
        predictions=[pair.prediction[0].numpy()], references=[pair.reference[0].numpy()], **options
    )


def measure_tables(metric: evaluate.EvaluationModule, prediction: str, reference: str) -> dict[str, float]:
    """Compute a metric of embeddings or logits on two `.npy` files `(samples, dimensions)`."""
    tables = [np.load(file, allow_pickle=False) for file in (prediction, reference)]
    if metric.name != "tag_divergence":
        tables = [table[None] for table in tables]
    return metric.compute(predictions=tables[0], references=tables[1])
