"""From finished runs to the page's JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from comparison.recipes import CONTROL
from comparison.verdict import thresholds
from engine.run_log import METRICS_NAME
from measurement import provenance
from study.held_out import MEASURED_NAME, HeldOut, measured
from study.runs import Run

SCRIPT = "compare_regularizers.py"


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
