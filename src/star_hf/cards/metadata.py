"""The front matter of a card, which the Hub reads: licence, library, task, base model, results.

`library_name` is the library whose class the configuration names. For ours that is `star_hf`, not
`diffusers`, `transformers` or `peft`: a model page shows the snippet of its library, and theirs
(`DiffusionPipeline.from_pretrained(…)`, `PeftModel.from_pretrained(…)`) cannot load these folders. For the
same reason the names of these libraries are not among the tags, where they count as a library, too.

`pipeline_tag` is `text-to-audio` for whatever is prompted with text. An autoencoder is `feature-extraction`,
as DAC, EnCodec and Mimi are: its latents are what it is for; `audio-to-audio` is enhancement and separation.
"""

from __future__ import annotations

from typing import Any

from huggingface_hub import DatasetCardData, EvalResult, ModelCardData

from .architecture import Architecture
from .documents import Document
from .measurements import Measurements

TAGS = {
    "pipeline": ["audio", "text-to-audio", "audio-generation"],
    "autoencoder": ["audio", "autoencoder", "vae", "audio-codec"],
    "lafa": ["audio", "autoencoder", "audio-codec", "lafa"],
    "generator": ["audio", "text-to-audio", "flow-matching"],
    "adapter": ["audio", "text-to-audio", "flow-matching", "adapter"],
    "latents": ["audio", "latents", "star_hf"],
}
FEATURES = ("autoencoder", "lafa")
#: What a metric of reconstruction.json is called in the results.
RECONSTRUCTION_METRICS = {
    "stft_distance": "STFT distance of held-out reconstructions",
    "mel_distance": "mel distance of held-out reconstructions",
    "si_sdr": "SI-SDR of held-out reconstructions, dB",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def model_metadata(
    name: str,
    kind: str,
    architecture: Architecture,
    measurements: Measurements | None,
    stated: dict[str, Any],
    widget: list[dict[str, Any]],
) -> ModelCardData:
    """Metadata of a model's card; what `stated` says takes precedence, and its tags are added."""
    tags = list(TAGS[kind])
    if architecture.generator and "flow-matching" not in tags:
        tags.append("flow-matching")
    shaped_by = (architecture.autoencoder.get("regularizer") or {}).get("name", "star")
    if architecture.class_name in ("AutoencoderStar", "StarGenPipeline") and "star" in shaped_by:
        tags.append("star")
    if architecture.adapter.get("rank"):
        tags.append("lora")
    values: dict[str, Any] = {
        "library_name": architecture.library,
        "pipeline_tag": "feature-extraction" if kind in FEATURES else "text-to-audio",
        "base_model": architecture.adapter.get("base"),
        "base_model_relation": "adapter" if architecture.adapter.get("base") else None,
        "widget": widget or None,
        **stated,
        "tags": [*tags, *_listed(stated.get("tags"))],
    }
    results = [] if measurements is None else evaluation_results(measurements)
    indexed = {"model_name": name, "eval_results": results} if results else {}
    return ModelCardData(**indexed, **values)


def dataset_metadata(name: str, info: Document, stated: dict[str, Any]) -> DatasetCardData:
    """Metadata of a latent dataset's card."""
    size = next((label for limit, label in _SIZES if info["num_rows"] < limit), "n>1M")
    values = {
        "pretty_name": name,
        "task_categories": ["text-to-audio"],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": "latents-*.parquet"}],
        **stated,
        "tags": [*TAGS["latents"], *_listed(stated.get("tags"))],
    }
    return DatasetCardData(**values)


def evaluation_results(measurements: Measurements) -> list[EvalResult]:
    """The main numbers, with the settings that they were measured with, for the model index."""
    results = []
    generation = measurements.generation
    if generation is not None:
        settings, judged = generation["settings"], generation["generated"]["judge"]
        dataset = settings.get("dataset", "real clips")
        keys = ("seed", "steps", "guidance", "seconds")
        results.append(
            EvalResult(
                task_type="text-to-audio",
                dataset_name=dataset,
                dataset_type=dataset,
                metric_type="accuracy",
                metric_name="generated clips recognized by a classifier fitted on real ones",
                metric_value=_rounded(judged["accuracy"]),
                metric_args={"clips": judged["num_clips"], **{key: settings[key] for key in keys}},
            )
        )
    if measurements.own is not None and measurements.reconstruction is not None:
        settings, own = measurements.reconstruction["settings"], measurements.own
        dataset = settings.get("dataset", "held-out clips")
        for key, title in RECONSTRUCTION_METRICS.items():
            if key in own:
                results.append(
                    _of_latents(key, title, own[key]["mean"], dataset, {"clips": own[key]["clips"]})
                )
    if measurements.audited is not None and measurements.audit is not None:
        profile = measurements.audited["latents"]["profile"]
        if profile["rate_kbps"] is not None:
            title = f"rate of the latents ({profile['kind']}), kbit/s"
            dataset = dataset_name(measurements.audit["dataset"])
            clips = {"clips": measurements.audited["num_clips"]}
            results.append(_of_latents("rate_kbps", title, profile["rate_kbps"], dataset, clips))
    return results


def _of_latents(key: str, title: str, value: float, dataset: str, settings: dict[str, Any]) -> EvalResult:
    return EvalResult(
        task_type="audio-to-audio",
        dataset_name=dataset,
        dataset_type=dataset,
        metric_type=key,
        metric_name=title,
        metric_value=_rounded(value),
        metric_args=settings,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def dataset_name(dataset: str) -> str:
    """The name of a data set without where it lies; the folder above `train` and the like."""
    parts = [part for part in dataset.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if len(parts) > 1 and parts[-1] in ("train", "test", "validation"):
        return parts[-2]
    return parts[-1] if parts else dataset


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
