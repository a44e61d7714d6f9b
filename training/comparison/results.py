"""From finished runs to the page's JSON: each is measured once, and its numbers are kept in its folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from comparison.measure import measure
from comparison.metrics import NOISE_SCALES
from comparison.recipes import CONTROL, Run
from comparison.verdict import thresholds
from engine.arguments import build, read_recipe
from engine.run_log import METRICS_NAME
from loaders.audio_arguments import AudioDataArguments
from measurement import provenance, run_arguments, write_json
from star_hf.data import load_audio_dataset, split_for_validation
from tasks.vae_loading import load_vae

MEASURED_NAME = "measured.json"
SCRIPT = "compare_regularizers.py"


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
        self._split: tuple[Dataset, Dataset] | None = None

    def split(self) -> tuple[Dataset, Dataset]:
        """Clips to train on, and clips held out."""
        if self._split is None:
            data = self.data
            dataset = load_audio_dataset(data.source, data.split, audio_column=data.audio_column)
            training, held_out = split_for_validation(dataset, self.rule[0], key_column=self.rule[1])
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


def measured(run: Run, held_out: HeldOut) -> dict[str, Any]:
    """The numbers of a finished run, measured now unless its folder holds those of this step.

    Raises `ValueError` for a run that held out other clips.
    """
    file, state = run.folder / MEASURED_NAME, run.state()
    mark = {"step": state["step"], **held_out.settings()}
    if file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["of"] == json.loads(json.dumps(mark)):
            return kept
    arguments = run_arguments(run.folder)
    data = arguments["data"]
    rule = (data["validation_fraction"], data["validation_key"] or data["audio_column"])
    if rule != held_out.rule:
        raise ValueError(f"{run.name} held out {rule}, Phase I {held_out.rule}: they cannot be compared")
    vae = load_vae(str(run.folder)).to("cuda" if torch.cuda.is_available() else "cpu")
    noise = (arguments.get("latent_noise") or {}).get("scale", 0.0)
    content = {
        "of": mark,
        "command": run.command,
        "seed": arguments["seed"],
        "steps": state["step"],
        "updates": next(iter(state["updates"].values())),
        "minutes": state["elapsed"] / 60,
        **measure(vae, held_out.split()[1], held_out.audio_column, run.name, noise),
    }
    write_json(file, content)
    line = ", ".join(f"{name} {value:.4g}" for name, value in content["metrics"].items() if value is not None)
    print(f"{run.name}: {line}", flush=True)
    return content


def assemble(
    phase1: Run, methods: Sequence[Run], repeats: Sequence[Run], held_out: HeldOut, argv: list[str]
) -> dict[str, Any]:
    """What `comparison.json` holds: everything that has been measured so far."""
    kept = {run.name: _kept(run, held_out) for run in (phase1, *methods, *repeats)}
    for run in (phase1, methods[0], *repeats):
        if kept[run.name] is None:
            raise ValueError(f"{run.name} has not been trained: without it there is nothing to compare with")
    control, repeated = kept[CONTROL], {run.name: kept[run.name] for run in repeats}
    return {
        "settings": {
            **held_out.settings(),
            "phase1_steps": kept[phase1.name]["steps"],
            "steps": control["steps"],
            "seed": control["seed"],
            "control_seeds": [result["seed"] for result in repeated.values()],
            "mixed_precision": held_out.mixed_precision,
        },
        "phase1": kept[phase1.name],
        "methods": {
            run.name: {**kept[run.name], "differs": run.differences(methods[0])}
            for run in methods
            if kept[run.name] is not None
        },
        "repeats": repeated,
        "missing": [run.name for run in methods if kept[run.name] is None],
        "thresholds": thresholds(control["metrics"], [result["metrics"] for result in repeated.values()]),
        **provenance(SCRIPT, argv),
    }


def assemble_sweep(
    runs: Mapping[float, Run], phase1: Run, held_out: HeldOut, argv: list[str]
) -> dict[str, Any]:
    """What `rate_sweep.json` holds: target, measured rate and distortion of each run."""
    points = []
    for target, run in runs.items():
        result = measured(run, held_out)
        training = _last_logged(run, "kbit/s")
        rate = result["metrics"]["rate_kbps"]
        points.append(
            {
                "target_kbps": target,
                "training_kbps": training,
                "training_deviation": training / target - 1,
                "held_out_deviation": rate / target - 1,
                **result,
            }
        )
    return {
        "settings": {
            **held_out.settings(),
            "phase1_steps": phase1.steps,
            "steps": points[0]["steps"],
            "seed": points[0]["seed"],
        },
        "points": points,
        **provenance(SCRIPT, argv),
    }


def _kept(run: Run, held_out: HeldOut) -> dict[str, Any] | None:
    """The numbers of a run that is finished with the present plan."""
    if not (run.is_finished() and (run.folder / MEASURED_NAME).is_file() and run.keeps_plan()):
        return None
    return measured(run, held_out)


def _last_logged(run: Run, name: str) -> float:
    """A metric of the run's log, the mean over its last window of steps."""
    lines = (run.folder / METRICS_NAME).read_text(encoding="utf-8").splitlines()
    values = [record[name] for record in map(json.loads, lines) if name in record]
    if not values:
        raise ValueError(f"{run.name} has not logged {name!r}: it is shorter than log_every")
    return values[-1]
