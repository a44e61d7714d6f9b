"""What docs/results.md is rendered from: the JSON of all that is trained and measured so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.arguments import read_recipe
from measurement import provenance, run_arguments
from star_hf.regularizers import growth_curve
from study.audience import Audience
from study.held_out import HeldOut, measured
from study.runs import SECONDARY, Run, leaves, without_folders
from tables.auditing import AuditArguments, audited, summary
from tables.band_errors import measured_bands
from tables.experiments import AUDITED, LAFA, PHASE1, RATE_SWEEP, REGULARIZERS, TABLES, Experiment

SCRIPT = "reproduce_tables.py"
#: What says where a run begins and lies, and not how it differs.
PLACES = (*SECONDARY, "init_from", "vae", "seed", "data.source")
#: STAR's weights have a mean that depends on the growth function, and with it the rate does.
MEAN_WEIGHT = "mean_kl_weight"
BANDS_SHOWN = ("edges_hz", "error_db", "bias_db", "std_over_clips")


@dataclass(frozen=True)
class Results:
    """Measures runs, or reads what was measured, and puts the document together."""

    runs: Mapping[Experiment, Run]
    held_out: HeldOut
    audience: Audience
    audit: AuditArguments

    def measure(self, experiment: Experiment) -> dict[str, Any]:
        """All numbers of a finished run, measured once."""
        run = self.runs[experiment]
        result = measured(run, self.held_out, self.audience)
        audit = bands = None
        if experiment.kind in AUDITED:
            audit = audited(run, self.held_out, self.audit)
            bands = measured_bands(run, self.held_out)
        parts = [part for part in (result, audit, bands) if part is not None]
        latents = result["latents"]
        return {
            "backbone": experiment.backbone,
            "regularizer": experiment.regularizer,
            "seed": experiment.seed,
            **{name: result[name] for name in ("command", "steps", "minutes", "parameters", "posterior")},
            "measuring_minutes": sum(part["measuring_minutes"] for part in parts),
            "differs": self.differences(experiment),
            MEAN_WEIGHT: mean_weight(run, len(latents["std_per_channel"])),
            "metrics": result["metrics"],
            "std_over_clips": result["std_over_clips"],
            "kl_per_channel": latents.get("kl_per_channel"),
            "audit": None if audit is None else summary(audit),
            "band_errors": None if bands is None else {key: bands[key] for key in BANDS_SHOWN},
        }

    def document(self, argv: Sequence[str]) -> dict[str, Any]:
        """What `autoencoders.json` holds: everything that is finished, measured now where it was not.

        Raises `ValueError` where nothing is finished.
        """
        results, missing = {}, []
        for experiment, run in self.runs.items():
            if run.is_finished():
                results[run.name] = self.measure(experiment)
            else:
                missing.append(run.name)
        if not results:
            raise ValueError("no autoencoder of the tables has been trained yet: leave `only` out")
        return {
            "settings": self.settings(),
            "runs": results,
            "tables": {table: self._rows(table, results) for table in TABLES},
            "missing": missing,
            "minutes": {
                "training": sum(result["minutes"] for result in results.values()),
                "measuring": sum(result["measuring_minutes"] for result in results.values()),
            },
            **provenance(SCRIPT, list(argv)),
        }

    def settings(self) -> dict[str, Any]:
        """What holds for all runs."""
        phase1 = self._first(PHASE1)
        recipe = read_recipe(phase1.recipe)
        arguments = run_arguments(phase1.folder) or {}
        return {
            **self.held_out.settings(),
            **self.audience.settings(),
            "phase1_steps": self._steps(PHASE1),
            "steps": self._steps(*REGULARIZERS.keys() - set(RATE_SWEEP)),
            "rate_steps": self._steps(*RATE_SWEEP),
            "lafa_steps": self._steps(LAFA),
            "batch_size": self.held_out.data.batch_size,
            "crop_samples": self.held_out.data.crops.num_samples,
            "seeds": sorted({experiment.seed for experiment in self.runs}),
            "threads": int(phase1.places.get("threads") or recipe.get("threads") or 0) or None,
            "mixed_precision": self.held_out.mixed_precision,
            "model": arguments.get("model"),
            "losses": arguments.get("losses"),
        }

    def differences(self, experiment: Experiment) -> dict[str, Any]:
        """What this run was told and its control was not; `None` for what it was not told."""
        if experiment == experiment.control or experiment.control not in self.runs:
            return {}
        own, base = told(self.runs[experiment]), told(self.runs[experiment.control])
        if experiment.training == LAFA:  # another script: what it was told, by its recipe
            keys = [key for key in own if own[key] != base.get(key)]
        else:
            keys = [key for key in dict.fromkeys([*own, *base]) if own.get(key) != base.get(key)]
        return {
            key: without_folders(own[key]) if isinstance(own.get(key), str) else own.get(key) for key in keys
        }

    def _rows(self, table: str, results: Mapping[str, Any]) -> list[dict[str, Any]]:
        rows: dict[tuple[str, str], dict[str, Any]] = {
            kind: {"backbone": kind[0], "regularizer": Experiment(*kind, 0).regularizer, "runs": []}
            for kind in TABLES[table]
        }
        for experiment, run in self.runs.items():
            if experiment.kind in rows and run.name in results:
                rows[experiment.kind]["runs"].append(run.name)
        return list(rows.values())

    def _first(self, training: str) -> Run:
        return next(run for experiment, run in self.runs.items() if experiment.training == training)

    def _steps(self, *trainings: str) -> int | None:
        """How long such runs train, all of them alike; None where there are none."""
        steps = {run.steps for experiment, run in self.runs.items() if experiment.training in trainings}
        return steps.pop() if len(steps) == 1 else None


def told(run: Run) -> dict[str, Any]:
    """Recipe and command line by dotted name, with the backbone that its first weights have."""
    backbone = "model.context_type"
    start = (run.start or {}).get("changes", {})
    values = {
        **dict(leaves(read_recipe(run.recipe))),
        **({backbone: start[backbone]} if backbone in start else {}),
        **run.changes,
    }
    return {key: value for key, value in values.items() if key not in PLACES and value is not None}


def mean_weight(run: Run, channels: int) -> float | None:
    """The mean of β over the channels; None for what has no β."""
    values = {
        key.removeprefix("regularizer."): value
        for key, value in told(run).items()
        if key.startswith("regularizer.")
    }
    name = values.get("name", "isotropic")
    if run.script != "train_autoencoder.py" or name not in ("isotropic", "star"):
        return None
    if name == "isotropic":
        return values.get("beta")
    curve = {key: values[key] for key in ("beta_min", "beta_max", "growth", "gamma") if key in values}
    return growth_curve(channels, **curve).mean().item()
