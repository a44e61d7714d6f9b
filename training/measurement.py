"""What the measuring scripts share: labelled clips, their features, and where the numbers come from."""

import json
import os
import platform
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from datasets import Dataset
from diffusers.models.modeling_utils import ModelMixin
from tqdm import tqdm

from engine.arguments import option
from star_hf.audio import read_audio
from star_hf.data import audio_name, audio_source, load_audio_dataset
from star_hf.evaluation.classifier import clip_features

PACKAGES = ("star-hf", "torch", "diffusers", "transformers", "datasets", "scikit-learn", "numpy", "soxr")
RUN_SETTINGS = ("init_from", "losses", "regularizer", "optimizer", "ema", "seed", "mixed_precision")


@dataclass
class LabelledClipsArguments:
    source: str = option("", "folder of labelled clips, or the name of a Hub dataset")
    split: str = option("train", "split of the dataset")
    audio_column: str = option("audio", "column with the audio")
    text_column: str = option("text", "column with the caption")
    label_column: str = option("label", "column with the class")
    fold_column: str = option(
        "fold", "column with the fold: a clip is judged by what was fitted on other folds"
    )


class LabelledClips:
    """Every clip of a dataset with its class, caption and fold; audio is read when it is asked for."""

    def __init__(self, arguments: LabelledClipsArguments) -> None:
        if not arguments.source:
            raise ValueError("data.source is missing: a folder or the name of a dataset")
        self.arguments = arguments
        self.dataset: Dataset = load_audio_dataset(
            arguments.source,
            arguments.split,
            audio_column=arguments.audio_column,
            text_column=arguments.text_column,
        )
        for argument in ("label_column", "fold_column"):
            column = getattr(arguments, argument)
            if column not in self.dataset.column_names:
                raise ValueError(
                    f"data.{argument} {column!r} is not in the dataset; it has "
                    f"{', '.join(self.dataset.column_names)}"
                )
        self.labels = [str(label) for label in self.dataset[arguments.label_column]]
        self.captions = [str(text) for text in self.dataset[arguments.text_column]]
        self.folds = [int(fold) for fold in self.dataset[arguments.fold_column]]

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def name(self) -> str:
        """The dataset's name, without where it lies."""
        path = Path(self.arguments.source)
        return path.parent.name if path.name == self.arguments.split else path.name

    def waveform(self, index: int, vae: ModelMixin) -> torch.Tensor:
        """One clip `(channels, samples)`, as `vae` takes it."""
        row = self.dataset.select([index])
        return next(read_clips(row, self.arguments.audio_column, vae))[1]

    def waveforms(self, vae: ModelMixin, title: str) -> Iterator[tuple[str, torch.Tensor]]:
        """File name and waveform `(channels, samples)` of all clips in order, as `vae` takes them."""
        return read_clips(progress(self.dataset, title), self.arguments.audio_column, vae)

    def features(
        self,
        vae: ModelMixin,
        title: str,
        transform: Callable[[torch.Tensor], torch.Tensor] = lambda waveform: waveform,
    ) -> np.ndarray:
        """Features `(clips, features)` of all clips, read as `vae` takes them, after `transform`."""
        rows = []
        for name, waveform in self.waveforms(vae, title):
            with naming(name):
                rows.append(clip_features(transform(waveform), vae.config.sampling_rate))
        return np.stack(rows)


def read_clips(
    rows: Iterable[dict[str, Any]], audio_column: str, vae: ModelMixin
) -> Iterator[tuple[str, torch.Tensor]]:
    """File name and whole waveform `(channels, samples)` of each row of a dataset, as `vae` takes it."""
    for index, row in enumerate(rows):
        source = audio_source(row[audio_column])
        waveform, _ = read_audio(source, vae.config.sampling_rate, vae.config.audio_channels)
        yield audio_name(row[audio_column], index), waveform


@contextmanager
def naming(clip: str) -> Iterator[None]:
    """Put the clip's name in front of what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{clip}: {error}") from error


@torch.no_grad()
def reconstruct(vae: ModelMixin, waveform: torch.Tensor) -> torch.Tensor:
    """A clip `(channels, samples)` through the autoencoder, by way of the posterior's mean."""
    latents = vae.encode(waveform[None].to(vae.device)).latent_dist.mode()
    return vae.decode(latents).sample[0, :, : waveform.shape[-1]].float().cpu()


def run_arguments(folder: str | Path) -> dict[str, Any] | None:
    """The resolved arguments of a training run's folder; None for any other folder."""
    file = Path(folder) / "arguments.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None


def describe_run(folder: str | Path) -> dict[str, Any]:
    """How a training run went: steps and minutes from its metrics, settings from its resolved arguments.

    Raises `ValueError` when the folder is no training run or its run has not logged a step.
    """
    arguments = run_arguments(folder)
    if arguments is None:
        raise ValueError(f"{str(folder)!r} is no training run: arguments.yaml is missing")
    timed = [record for record in _metrics(folder) if "minutes" in record]
    if not timed:
        raise ValueError(f"{str(folder)!r} has not logged a training step yet")
    return {
        "steps": timed[-1]["step"],
        "minutes": timed[-1]["minutes"],
        **{name: arguments[name] for name in RUN_SETTINGS if name in arguments},
    }


def training_curve(folder: str | Path, held_out: str) -> dict[str, list[tuple[int, float]]]:
    """Training loss, and the validation metric named `held_out`, of a run: (step, value) each."""
    keys = {"training": "loss", "held-out": f"validation/{held_out}"}
    records = _metrics(folder)
    curves = {
        name: [(record["step"], record[key]) for record in records if key in record]
        for name, key in keys.items()
    }
    return {name: points for name, points in curves.items() if points}


def progress(items, title: str):
    """`items` with a progress bar on a terminal, and a plain line elsewhere."""
    bar = tqdm(items, desc=title, disable=None, leave=False)
    if bar.disable:
        print(f"{title} ({len(items)})", flush=True)
    return bar


def provenance(script: str, argv: list[str]) -> dict[str, Any]:
    """Where numbers come from: the command, the versions, and the machine in general terms."""
    return {
        "command": shlex.join(["python", f"training/{script}", *map(_without_folders, argv)]),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """The machine in general terms, without names or addresses."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "architecture": platform.machine(),
        "cpu_cores": cores,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write readable JSON, complete or not at all. Raises `ValueError` for NaN or infinity."""
    text = json.dumps(_rounded(content), indent=2, ensure_ascii=False, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def _metrics(folder: str | Path) -> list[dict[str, float]]:
    file = Path(folder) / "metrics.jsonl"
    if not file.is_file():
        raise ValueError(f"{str(folder)!r} is no training run: metrics.jsonl is missing")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _without_folders(argument: str) -> str:
    """An absolute path tells about the machine, not about the measurement."""
    name, equals, value = argument.rpartition("=")
    return f"{name}{equals}{Path(value).name}" if Path(value).is_absolute() else argument


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
