"""The clips that a study holds out, and each run's numbers on them, measured once and kept in its folder."""

import json
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from engine.arguments import build, read_recipe
from loaders.audio_arguments import AudioDataArguments
from measurement import run_arguments, write_json
from star_hf.data import load_audio_dataset, split_for_validation
from study.audience import Audience
from study.measure import NOISE_SCALES, measure
from study.runs import Run
from tasks.vae_loading import load_vae

MEASURED_NAME = "measured.json"


class HeldOut:
    """The clips that Phase I, and with it every run, holds out."""

    def __init__(self, phase1: Run) -> None:
        recipe = read_recipe(phase1.recipe)
        values = recipe.get("data", {})
        if "data.source" in phase1.changes:
            values = {**values, "source": phase1.changes["data.source"]}
        data = self.data = build(AudioDataArguments, values, "data")
        self.mixed_precision = recipe.get("mixed_precision")
        self.audio_column = data.audio_column
        self.rule = (data.validation_fraction, data.validation_key or data.audio_column)
        if not data.validation_fraction > 0:
            raise ValueError(
                "data.validation_fraction is 0 in Phase I's recipe: there is nothing to measure on"
            )
        self._dataset: Dataset | None = None
        self._split: tuple[Dataset, Dataset] | None = None

    def dataset(self) -> Dataset:
        """All clips. Raises `ValueError` or `OSError` when they are not there."""
        if self._dataset is None:
            data = self.data
            self._dataset = load_audio_dataset(data.source, data.split, audio_column=data.audio_column)
        return self._dataset

    def split(self) -> tuple[Dataset, Dataset]:
        """Clips to train on, and clips held out."""
        if self._split is None:
            training, held_out = split_for_validation(self.dataset(), self.rule[0], key_column=self.rule[1])
            self._split = training, held_out
        return self._split

    def settings(self) -> dict[str, Any]:
        path = Path(self.data.source)
        return {
            "dataset": path.parent.name if path.name == self.data.split else path.name,
            "held_out_clips": len(self.split()[1]),
            "training_clips": len(self.split()[0]),
            "validation_fraction": self.rule[0],
            "validation_key": self.rule[1],
            "noise_scales": list(NOISE_SCALES),
        }


def measured(run: Run, held_out: HeldOut, audience: Audience | None = None) -> dict[str, Any]:
    """The numbers of a finished run, measured now unless its folder holds those of this step.

    With an `audience` the Fréchet distance of the reconstructions, `fad`, is one of the metrics.

    Raises `ValueError` for a run that held out other clips.
    """
    file, state = run.folder / MEASURED_NAME, run.state()
    mark = {"step": state["step"], **held_out.settings(), **(audience.settings() if audience else {})}
    kept = kept_result(file, mark)
    if kept is not None:
        return kept
    arguments = run_arguments(run.folder)
    data = arguments["data"]
    rule = (data["validation_fraction"], data["validation_key"] or data["audio_column"])
    if rule != held_out.rule:
        raise ValueError(f"{run.name} held out {rule}, Phase I {held_out.rule}: they cannot be compared")
    started = time.monotonic()
    vae = load_vae(str(run.folder)).to("cuda" if torch.cuda.is_available() else "cpu")
    noise = (arguments.get("latent_noise") or {}).get("scale", 0.0)
    options = [vae, held_out.split()[1], held_out.audio_column, run.name, noise]
    if audience is None:
        numbers = measure(*options)
    else:
        listener = audience.listener(vae.config.sampling_rate)
        numbers = measure(*options, listener)
        numbers["metrics"]["fad"] = listener.distance()
    content = {
        "of": mark,
        "command": run.command,
        "seed": arguments["seed"],
        "steps": state["step"],
        "updates": next(iter(state["updates"].values())),
        "minutes": state["elapsed"] / 60,
        "measuring_minutes": (time.monotonic() - started) / 60,
        **numbers,
    }
    write_json(file, content)
    line = ", ".join(f"{name} {value:.4g}" for name, value in content["metrics"].items() if value is not None)
    print(f"{run.name}: {line}", flush=True)
    return read_result(file)  # as written, to as many digits: what later calls find


def kept_result(file: Path, mark: dict[str, Any]) -> dict[str, Any] | None:
    """What `file` holds if it is of `mark`: the same step, data and settings."""
    if not file.is_file():
        return None
    kept = read_result(file)
    return kept if kept["of"] == json.loads(json.dumps(mark)) else None


def read_result(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))
