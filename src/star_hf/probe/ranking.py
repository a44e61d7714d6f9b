"""Whose latents are the easiest to generate, how sure that is, and which cheaper number would have told it.

Pure functions on the document of a paired probe.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .agreement import Scores, agreement

#: Measured on latents, without generating a sound. `flow_loss` itself orders as its relative form does.
LOSS_METRICS = ("relative_flow_loss", "reducible_flow_loss", "unpredicted_rate")


def rank(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a paired probe with its "ranking" and its "correlation", for JSON.

    `ranking[generator]` lists the budgets in ascending order, each with `budget`, `seeds` (how many) and
    `metrics`. A metric has

    - `order`: the autoencoders, best first, with mean, sample standard deviation (None of one seed), min and
      max over the seeds;
    - `undecided`: pairs of neighbours in that order whose ranges over the seeds overlap. One seed has no
      range, so that all are undecided;
    - `may_be_best`: the first, and all that are undecided against it;
    - `missing`: autoencoders that lack a value in some run, and are not ranked.

    `apart_by_chance` of a budget tells how often the ranges of two autoencoders that are equal do not
    overlap: 2 / C(2n, n) with n seeds, None with one.

    `correlation[generator]` has rank correlations over the autoencoders, entries of `agreement` with
    `predictor`, `budget` (None of a reconstruction), `target` and `target_budget`:

    - `between_budgets`: a metric at each smaller budget, and the same metric at the largest;
    - `repeated`: a metric at the largest budget with itself under other seeds, which no cheaper number can be
      expected to exceed;
    - `flow_loss`: the losses at each budget, and what is generated at the largest;
    - `reconstruction`: what comes through the autoencoder alone, and what is generated at the largest budget.
    """
    tables = {generator: RunTable(document, generator) for generator in generators(document)}
    return {
        **document,
        "ranking": {
            name: [_ranked(table, budget) for budget in table.budgets] for name, table in tables.items()
        },
        "correlation": {name: _correlated(table) for name, table in tables.items()},
    }


def generators(document: Mapping[str, Any]) -> list[str]:
    """The generators that some autoencoder has runs of."""
    reports = (report["generators"] for report in document["autoencoders"].values())
    return list(dict.fromkeys(name for report in reports for name in report if report[name]["runs"]))


@dataclass(frozen=True)
class RunTable:
    """The runs of one generator, read by metric and budget."""

    document: Mapping[str, Any]
    generator: str

    @property
    def reports(self) -> dict[str, Mapping[str, Any]]:
        """`generators[self.generator]` of each autoencoder that has it."""
        return {
            name: report["generators"][self.generator]
            for name, report in self.document["autoencoders"].items()
            if self.generator in report["generators"]
        }

    @property
    def budgets(self) -> list[int]:
        return sorted({run["budget"] for report in self.reports.values() for run in report["runs"]})

    @property
    def metrics(self) -> list[str]:
        """The metrics that some run has a value of."""
        runs = [run for report in self.reports.values() for run in report["runs"]]
        return [
            name for name in self.document["metrics"] if any(_value(run, name) is not None for run in runs)
        ]

    @property
    def generated(self) -> list[str]:
        """The metrics of sounds: those that a reconstruction has, too. Silence is a fault, not a merit."""
        return [name for name in self.metrics if self.reconstruction(name) and name != "silent_share"]

    def runs(self, name: str, budget: int) -> list[Mapping[str, Any]]:
        return [run for run in self.reports[name]["runs"] if run["budget"] == budget]

    def scores(self, metric: str, budget: int) -> Scores:
        """By autoencoder and seed, of the autoencoders that have a value in every run of the budget."""
        scores: Scores = {}
        for name in self.reports:
            values = {run["seed"]: _value(run, metric) for run in self.runs(name, budget)}
            if values and None not in values.values():
                scores[name] = values
        return scores

    def reconstruction(self, metric: str) -> Scores:
        """Of the autoencoder alone, which has no seed (None)."""
        values = {name: _value(report["reconstruction"], metric) for name, report in self.reports.items()}
        return {name: {None: value} for name, value in values.items() if value is not None}

    def sign(self, metric: str) -> int:
        """1 where less is better, −1 where more is."""
        return {"less": 1, "more": -1}[self.document["metrics"][metric]["better"]]


def undecided(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether the ranges of two autoencoders' values over their seeds overlap, or one seed gives no range."""
    if min(len(first), len(second)) < 2:
        return True
    return max(min(first), min(second)) <= min(max(first), max(second))


def apart_by_chance(seeds: int) -> float | None:
    """How often the ranges of two equal autoencoders do not overlap: all values of one above the other's."""
    return 2 / math.comb(2 * seeds, seeds) if seeds > 1 else None


def _ranked(table: RunTable, budget: int) -> dict[str, Any]:
    seeds = {run["seed"] for name in table.reports for run in table.runs(name, budget)}
    return {
        "budget": budget,
        "seeds": len(seeds),
        "apart_by_chance": apart_by_chance(len(seeds)),
        "metrics": {metric: _order(table, metric, budget) for metric in table.metrics},
    }


def _order(table: RunTable, metric: str, budget: int) -> dict[str, Any]:
    values = {name: list(by_seed.values()) for name, by_seed in table.scores(metric, budget).items()}
    names = sorted(values, key=lambda name: table.sign(metric) * statistics.fmean(values[name]))
    neighbours = zip(names, names[1:], strict=False)
    return {
        "order": [{"name": name, **_spread(values[name])} for name in names],
        "undecided": [list(pair) for pair in neighbours if undecided(*(values[name] for name in pair))],
        "may_be_best": names[:1] + [name for name in names[1:] if undecided(values[names[0]], values[name])],
        "missing": [name for name in table.reports if name not in values],
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
    }


def _correlated(table: RunTable) -> dict[str, Any]:
    largest = table.budgets[-1]

    def entry(predictor: str, budget: int | None, target: str, **options: bool) -> dict[str, Any]:
        before = table.reconstruction(predictor) if budget is None else table.scores(predictor, budget)
        sign = table.sign(predictor) * table.sign(target)
        return {
            "predictor": predictor,
            "budget": budget,
            "target": target,
            "target_budget": largest,
            **agreement(before, table.scores(target, largest), sign, **options),
        }

    metrics, generated, smaller = table.metrics, table.generated, table.budgets[:-1]
    losses = [metric for metric in LOSS_METRICS if metric in metrics]
    return {
        "autoencoders": len(table.reports),
        "budgets": table.budgets,
        "between_budgets": [entry(metric, budget, metric) for budget in smaller for metric in metrics],
        "repeated": [
            repeat
            for repeat in (entry(metric, largest, metric, other_seeds_only=True) for metric in metrics)
            if repeat["other_seeds"] is not None
        ],
        "flow_loss": [
            entry(loss, budget, metric) for loss in losses for budget in table.budgets for metric in generated
        ],
        "reconstruction": [entry(metric, None, metric) for metric in generated],
    }


def _value(values: Mapping[str, Any], metric: str) -> float | None:
    """The finite number under `metric`, or None."""
    value = values.get(metric)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None
