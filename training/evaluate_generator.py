"""Measure a text-to-audio pipeline: does a judge fitted on real clips recognize what it generates?

python training/evaluate_generator.py \
    --data.source ../shared/data/esc10/train --output_dir model_cards/star-gen-esc10

Writes `generation.json`, `spectrograms.png` (generated next to real), `examples/CLASS.flac`, and, where the
generator's `--run` is given, `training.png`. Nothing is picked: pictures and examples are the first seeds.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.arguments import group, option, parse_arguments
from engine.run_log import fail
from measurement import (
    LabelledClips,
    LabelledClipsArguments,
    describe_run,
    progress,
    provenance,
    reconstruct,
    training_curve,
    write_json,
)
from star_hf.audio import AudioError, write_audio
from star_hf.evaluation.classifier import SILENCE, ClipJudge, JudgeReport, clip_features, cross_validate
from star_hf.evaluation.noise_vocoder import noise_vocode
from star_hf.evaluation.novelty import measure_novelty
from star_hf.evaluation.plots import SpectrogramPair, plot_spectrogram_grid, plot_training_curves
from star_hf.generation import StarGenPipeline
from star_hf.generation.vae_interface import latent_layout
from star_hf.hub import resolve_model

VAE_OPTIONS = (
    "filterbank_bands",
    "filterbank_type",
    "linear_shortcut",
    "downsampling_ratios",
    "context_type",
    "num_context_layers",
)


@dataclass
class GeneratorEvaluationArguments:
    pipeline: str | None = option(None, "folder or Hub id; default: the checkpoint inside the package")
    run: str | None = option(None, "folder of the generator's training run, to tell how it was trained")
    data: LabelledClipsArguments = group(LabelledClipsArguments)
    output_dir: str = option("", "folder for generation.json, spectrograms.png and examples/")
    prompts: dict[str, list[str]] = option(
        {}, "prompts of each class; default: the captions of its real clips"
    )
    clips_per_class: int = option(10, "clips to generate for each class, its prompts in turn")
    seed: int = option(1000, "of the first clip; every clip has its own, the next number")
    seconds: float = option(5.0, "length of a clip")
    steps: int = option(24, "sampling steps")
    guidance: float = option(3.0, "guidance scale")
    batch_size: int = option(10, "clips generated at once")
    examples_per_class: int = option(1, "clips of each class to keep as FLAC")
    device: str = option("cuda" if torch.cuda.is_available() else "cpu", "PyTorch device")

    def check(self) -> None:
        if not self.output_dir:
            raise ValueError("output_dir is missing: the folder to write to")
        for name in ("clips_per_class", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.examples_per_class < 0:
            raise ValueError(f"examples_per_class must be at least 0, got {self.examples_per_class}")


@dataclass(frozen=True)
class Request:
    """One clip to generate."""

    label: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class Generated:
    """A generated clip `(channels, samples)` and the seconds that it took, its share of the batch."""

    request: Request
    waveform: torch.Tensor
    seconds: float


def plan(prompts: dict[str, list[str]], clips_per_class: int, first_seed: int) -> list[Request]:
    """All clips to generate: each class's prompts in turn, every clip with a seed of its own."""
    requests = []
    for label, texts in prompts.items():
        for number in range(clips_per_class):
            requests.append(Request(label, texts[number % len(texts)], first_seed + len(requests)))
    return requests


def class_prompts(given: dict[str, list[str]], clips: LabelledClips) -> dict[str, list[str]]:
    """The prompts of every class of the dataset: the given ones, else its distinct captions, in order."""
    labels = sorted(set(clips.labels))
    unknown = sorted(set(given) - set(labels))
    if unknown:
        raise ValueError(f"prompts names {', '.join(unknown)}, not among the classes {', '.join(labels)}")
    captions = {
        label: sorted({text for text, of in zip(clips.captions, clips.labels, strict=True) if of == label})
        for label in labels
    }
    return {label: given.get(label) or captions[label] for label in labels}


class Sampler:
    """Generates requests with a pipeline under fixed settings."""

    def __init__(self, pipeline: StarGenPipeline, arguments: GeneratorEvaluationArguments) -> None:
        self.pipeline, self.arguments = pipeline, arguments
        pipeline.set_progress_bar_config(disable=True)

    def __call__(self, requests: list[Request]) -> Iterator[Generated]:
        """Generate one batch."""
        started = time.perf_counter()
        audios = self.pipeline(
            [request.prompt for request in requests],
            audio_length_in_s=self.arguments.seconds,
            num_inference_steps=self.arguments.steps,
            guidance_scale=self.arguments.guidance,
            generator=[torch.Generator("cpu").manual_seed(request.seed) for request in requests],
        ).audios.cpu()
        seconds = (time.perf_counter() - started) / len(requests)
        for request, waveform in zip(requests, audios, strict=True):
            yield Generated(request, waveform, seconds)

    def latency(self, request: Request, repeats: int = 3) -> float:
        """Median seconds of a single clip, from prompt to waveform, of a warm pipeline."""
        return statistics.median(next(self([request])).seconds for _ in range(repeats))


def generate(sampler: Sampler, requests: list[Request], batch_size: int) -> list[Generated]:
    """Generate everything, in batches."""
    batches = [requests[start : start + batch_size] for start in range(0, len(requests), batch_size)]
    return [
        clip for batch in progress(batches, f"generating {len(requests)} clips") for clip in sampler(batch)
    ]


def judge_generated(judge: ClipJudge, generated: list[Generated], sampling_rate: int) -> JudgeReport:
    """How many generated clips are assigned to the class of their prompt."""
    assigned = judge.assign_clips((clip.waveform for clip in generated), sampling_rate)
    return JudgeReport.of([clip.request.label for clip in generated], assigned)


def evaluate(arguments: GeneratorEvaluationArguments, argv: list[str]) -> dict[str, Any]:
    """Generate and measure; the result is what `generation.json` holds."""
    arguments.check()
    clips = LabelledClips(arguments.data)
    prompts = class_prompts(arguments.prompts, clips)
    folder = resolve_model(arguments.pipeline)
    pipeline = StarGenPipeline.from_pretrained(folder, torch_dtype=torch.float32).to(arguments.device)
    vae, sampling_rate = pipeline.vae, pipeline.vae.config.sampling_rate

    sampler = Sampler(pipeline, arguments)
    requests = plan(prompts, arguments.clips_per_class, arguments.seed)
    generated = generate(sampler, requests, arguments.batch_size)
    latency = sampler.latency(requests[0])

    real = clips.features(vae, "features of the real clips")
    copies = clips.features(vae, "features of the real clips through the VAE", partial(reconstruct, vae))
    shaped_noise = partial(noise_vocode, sampling_rate=sampling_rate)
    vocoded = clips.features(vae, "features of the real clips as shaped noise", shaped_noise)
    report = judge_generated(ClipJudge().fit(real, clips.labels), generated, sampling_rate)
    audible = [clip.waveform for clip in generated if clip.waveform.isfinite().all() and clip.waveform.any()]
    novelty = None
    if audible:
        described = np.stack([clip_features(waveform, sampling_rate) for waveform in audible])
        novelty = asdict(measure_novelty(real, copies, described))

    output = Path(arguments.output_dir)
    write_examples(generated, sampling_rate, arguments.examples_per_class, output / "examples")
    plot_spectrogram_grid(pairs(generated, clips, pipeline), sampling_rate, output / "spectrograms.png")
    if arguments.run is not None:
        curves = training_curve(arguments.run, held_out="flow")
        plot_training_curves(
            curves, output / "training.png", "Training of the generator", "flow matching loss"
        )
    names = ("clips_per_class", "seed", "seconds", "steps", "guidance", "batch_size")
    return {
        "settings": {
            "dataset": clips.name,
            "real_clips": len(clips),
            **{name: getattr(arguments, name) for name in names},
            "prompts": prompts,
        },
        "pipeline": describe(pipeline, folder, arguments.run),
        "generated": {
            "judge": asdict(report),
            "silent_clips": sum(row.get(SILENCE, 0) for row in report.confusion.values()),
            "novelty": novelty,
        },
        "ceiling": {
            "real": asdict(cross_validate(real, clips.labels, clips.folds)),
            "through_vae": asdict(cross_validate(real, clips.labels, clips.folds, copies)),
            "noise_vocoded": asdict(cross_validate(real, clips.labels, clips.folds, vocoded)),
        },
        "chance": 1 / len(prompts),
        "speed": {
            "seconds_per_clip_in_batches": statistics.fmean(clip.seconds for clip in generated),
            "seconds_single_clip": latency,
        },
        **provenance("evaluate_generator.py", argv),
    }


def describe(pipeline: StarGenPipeline, folder: Path, run: str | None) -> dict[str, Any]:
    """Sizes and layout of the pipeline's parts, and how the generator was trained where `run` tells."""
    text, vae = pipeline.model.config.text_config, pipeline.vae
    weights = [file.stat().st_size for file in folder.rglob("*.safetensors")]
    facts: dict[str, Any] = {
        "parameters": {
            "model": sum(parameter.numel() for parameter in pipeline.model.parameters()),
            "vae": sum(parameter.numel() for parameter in vae.parameters()),
        },
        "weights_mb": sum(weights) / 1e6,
        "model": {
            "layers": text.num_hidden_layers,
            "hidden_size": text.hidden_size,
            "attention_heads": text.num_attention_heads,
            "vocabulary": text.vocab_size,
        },
        "vae": {
            **asdict(latent_layout(vae)),
            "audio_channels": vae.config.audio_channels,
            # not every audio autoencoder of diffusers has these
            **{name: vae.config[name] for name in VAE_OPTIONS if name in vae.config},
        },
    }
    if run is not None:
        facts["training"] = describe_run(run)
    return facts


def write_examples(generated: list[Generated], sampling_rate: int, per_class: int, folder: Path) -> None:
    """Keep the first clips of each class as `CLASS.flac`, `CLASS_2.flac`, …"""
    counts: dict[str, int] = {}
    for clip in generated:
        label = clip.request.label
        counts[label] = counts.get(label, 0) + 1
        if counts[label] <= per_class and clip.waveform.isfinite().all():
            folder.mkdir(parents=True, exist_ok=True)
            number = f"_{counts[label]}" if counts[label] > 1 else ""
            write_audio(folder / f"{label}{number}.flac", clip.waveform, sampling_rate)


def pairs(
    generated: list[Generated], clips: LabelledClips, pipeline: StarGenPipeline
) -> list[SpectrogramPair]:
    """Each class's first generated clip, and the first real clip with the same caption, else of the class."""
    first: dict[str, Generated] = {}
    for clip in generated:
        first.setdefault(clip.request.label, clip)
    result = []
    for label, clip in first.items():
        of_class = [index for index, name in enumerate(clips.labels) if name == label]
        same = [index for index in of_class if clips.captions[index] == clip.request.prompt]
        real = clips.waveform((same or of_class)[0], pipeline.vae)
        result.append(SpectrogramPair(clip.request.prompt, real, clip.waveform.nan_to_num()))
    return result


def summary(document: dict[str, Any]) -> str:
    """The result in a few lines."""
    judged, ceiling = document["generated"]["judge"], document["ceiling"]
    width = max(map(len, judged["per_class"]))
    lines = [f"  {label:<{width}}  {share:.0%}" for label, share in judged["per_class"].items()]
    real, through_vae = ceiling["real"]["accuracy"], ceiling["through_vae"]["accuracy"]
    return "\n".join(
        [
            *lines,
            f"{judged['accuracy']:.1%} of {judged['num_clips']} generated clips recognized",
            f"(real clips {real:.1%}, through the VAE {through_vae:.1%}, chance {document['chance']:.0%})",
            f"a single clip takes {document['speed']['seconds_single_clip']:.2f} s",
        ]
    )


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    try:
        arguments = parse_arguments(GeneratorEvaluationArguments, argv)
        document = evaluate(arguments, argv)
        write_json(Path(arguments.output_dir) / "generation.json", document)
        print(summary(document), flush=True)
    except (ValueError, AudioError, OSError) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
