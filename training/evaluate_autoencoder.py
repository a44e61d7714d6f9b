"""Measure autoencoders side by side: reconstruction of held-out clips, KL per channel, rate, recognizability.

python training/evaluate_autoencoder.py \
    --data.source ../shared/data/esc10/train --output_dir model_cards/star-gen-esc10 \
    --vaes.star runs/esc10_autoencoder_star --vaes.isotropic runs/esc10_autoencoder_isotropic

Writes `reconstruction.json` and, where a posterior has a KL, `kl_profile.png`. The held-out clips are those
of the training runs.
"""

import statistics
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from diffusers.models.modeling_utils import ModelMixin

from engine.arguments import group, option, parse_arguments
from engine.run_log import fail
from measurement import (
    LabelledClips,
    LabelledClipsArguments,
    describe_run,
    naming,
    progress,
    provenance,
    read_clips,
    reconstruct,
    run_arguments,
    write_json,
)
from star_hf.audio import AudioError
from star_hf.data import split_for_validation
from star_hf.evaluation import ChannelKL, LatentProfile, mel_distance, si_sdr, stft_distance
from star_hf.evaluation.classifier import cross_validate
from star_hf.evaluation.plots import plot_kl_profile
from star_hf.generation.vae_interface import latent_layout, posterior_kind
from tasks.vae_loading import load_vae


@dataclass
class ClipsAndSplitArguments(LabelledClipsArguments):
    validation_fraction: float | None = option(None, "share held out; default: that of the training runs")
    validation_key: str | None = option(None, "column held out by; default: that of the training runs")


@dataclass
class AutoencoderEvaluationArguments:
    vaes: dict[str, str] = option({}, "name and folder of each: --vaes.NAME FOLDER, of a run or of a model")
    data: ClipsAndSplitArguments = group(ClipsAndSplitArguments)
    output_dir: str = option("", "folder for reconstruction.json and kl_profile.png")
    judge: bool = option(True, "also ask how many reconstructions are still recognized, over all clips")
    device: str = option("cuda" if torch.cuda.is_available() else "cpu", "PyTorch device")


@dataclass
class HeldOutResult:
    """Per-clip metrics of one autoencoder on the held-out clips, and its KL profile if there is a KL."""

    metrics: dict[str, list[float]]
    profile: LatentProfile | None

    def to_dict(self) -> dict[str, Any]:
        summary = {
            name: {"mean": statistics.fmean(values), "std": statistics.pstdev(values), "clips": len(values)}
            for name, values in self.metrics.items()
        }
        return {**summary, "latents": self.profile.to_dict() if self.profile else None}


@torch.no_grad()
def measure_held_out(vae: ModelMixin, held_out: Dataset, audio_column: str, title: str) -> HeldOutResult:
    """Reconstruct every clip from its posterior's mean and compare, each on its own."""
    metrics: dict[str, list[float]] = {"stft_distance": [], "mel_distance": [], "si_sdr": []}
    has_kl = posterior_kind(vae) == "gaussian"
    capacity = ChannelKL()
    for name, waveform in read_clips(progress(held_out, f"{title}: held-out clips"), audio_column, vae):
        reference = waveform[None]
        posterior = vae.encode(reference.to(vae.device)).latent_dist
        prediction = vae.decode(posterior.mode()).sample[..., : waveform.shape[-1]].float().cpu()
        with naming(name):
            metrics["stft_distance"].append(stft_distance(prediction, reference).item())
            metrics["mel_distance"].append(
                mel_distance(prediction, reference, vae.config.sampling_rate).item()
            )
            metrics["si_sdr"].append(si_sdr(prediction, reference).item())
            if has_kl:
                capacity.update(posterior.mean, posterior.std)
    layout = latent_layout(vae)
    profile = capacity.profile(layout.sampling_rate / layout.hop_length) if has_kl else None
    return HeldOutResult(metrics, profile)


def describe(vae: ModelMixin, folder: str) -> dict[str, Any]:
    """Size and layout of an autoencoder, and how it was trained where its folder tells."""
    facts: dict[str, Any] = {
        "class": type(vae).__name__,
        "parameters": sum(parameter.numel() for parameter in vae.parameters()),
        "audio_channels": vae.config.audio_channels,
        **asdict(latent_layout(vae)),
    }
    if run_arguments(folder) is not None:
        facts["training"] = describe_run(folder)
    return facts


def held_out_rule(arguments: AutoencoderEvaluationArguments) -> tuple[float, str]:
    """Share and key column of the held-out clips: those of the training runs, which must agree."""
    rules = {}
    for name, folder in arguments.vaes.items():
        recorded = run_arguments(folder)
        if recorded is not None:
            data = recorded["data"]
            rules[name] = (data["validation_fraction"], data["validation_key"] or data["audio_column"])
    given = arguments.data
    if given.validation_fraction is not None:
        rules["command line"] = (given.validation_fraction, given.validation_key or given.audio_column)
    if not rules:
        raise ValueError(
            "data.validation_fraction is missing: none of the vaes is a training run that tells it"
        )
    if len(set(rules.values())) > 1:
        raise ValueError(f"the vaes hold out different clips and cannot be compared: {rules}")
    fraction, key_column = next(iter(rules.values()))
    if fraction == 0:
        raise ValueError("data.validation_fraction is 0: there is no held-out clip to measure")
    return fraction, key_column


def evaluate(arguments: AutoencoderEvaluationArguments, argv: list[str]) -> dict[str, Any]:
    """Measure every autoencoder; the result is what `reconstruction.json` holds."""
    if not arguments.vaes or not arguments.output_dir:
        raise ValueError("--vaes.NAME FOLDER and --output_dir FOLDER are needed")
    fraction, key_column = held_out_rule(arguments)
    clips = LabelledClips(arguments.data)
    _, held_out = split_for_validation(clips.dataset, fraction, key_column=key_column)
    vaes = {name: load_vae(folder).to(arguments.device) for name, folder in arguments.vaes.items()}

    results: dict[str, Any] = {}
    profiles: dict[str, LatentProfile] = {}
    for name, vae in vaes.items():
        measured = measure_held_out(vae, held_out, arguments.data.audio_column, name)
        if measured.profile is not None:
            profiles[name] = measured.profile
        results[name] = {**describe(vae, arguments.vaes[name]), **measured.to_dict()}
        print(f"{name}: {_line(results[name])}", flush=True)
    document = {
        "settings": {
            "dataset": clips.name,
            "held_out_clips": len(held_out),
            "validation_fraction": fraction,
            "validation_key": key_column,
            "latents": "posterior mean",
        },
        "autoencoders": results,
        **provenance("evaluate_autoencoder.py", argv),
    }
    if arguments.judge:
        document["ceiling"] = judge_reconstructions(clips, vaes, results)
    if profiles:
        plot_kl_profile(profiles, Path(arguments.output_dir) / "kl_profile.png")
    return document


def judge_reconstructions(clips: LabelledClips, vaes: dict[str, ModelMixin], results: dict) -> dict:
    """Add `judge` to each result; returns the report on the real clips themselves."""
    real = clips.features(next(iter(vaes.values())), "real clips: features")
    for name, vae in vaes.items():
        copies = clips.features(vae, f"{name}: features of all clips", partial(reconstruct, vae))
        report = cross_validate(real, clips.labels, clips.folds, copies)
        results[name]["judge"] = asdict(report)
        print(f"{name}: {report.accuracy:.1%} of {report.num_clips} reconstructions recognized", flush=True)
    ceiling = cross_validate(real, clips.labels, clips.folds)
    print(f"real clips: {ceiling.accuracy:.1%} recognized", flush=True)
    return asdict(ceiling)


def _line(result: dict[str, Any]) -> str:
    latents = result["latents"]
    distances = [f"{key} {result[key]['mean']:.3f}" for key in ("stft_distance", "mel_distance", "si_sdr")]
    if latents is None:
        return ", ".join(distances)
    ratio = latents["head_tail_ratio"]
    order = "empty tail" if ratio is None else f"first/last eighth {ratio:.2f}"
    return ", ".join([*distances, f"{latents['rate_kbps']:.2f} kbit/s", order])


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    try:
        arguments = parse_arguments(AutoencoderEvaluationArguments, argv)
        document = evaluate(arguments, argv)
        write_json(Path(arguments.output_dir) / "reconstruction.json", document)
    except (ValueError, AudioError, OSError) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
