"""The study's JSON, read by method: which runs each has, their numbers over the seeds, what is missing."""

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from study.pages import read_document
from tables.columns import SHARES
from tables.paper import Method
from tables.seeds import SeedValues

AUTOENCODERS_NAME, TIMING_NAME, GENERATORS_NAME = "autoencoders.json", "timing.json", "generators.json"

Run = Mapping[str, Any]


class Documents:
    """`autoencoders.json`, and `timing.json` and `generators.json` where they are there.

    Raises `ValueError` when the first is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.autoencoders = read_document(folder / AUTOENCODERS_NAME, "run the study first")
        self.timing, self.generators = (
            json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
            for file in (folder / TIMING_NAME, folder / GENERATORS_NAME)
        )
        self.runs: dict[str, Run] = self.autoencoders["runs"]

    def rows(self, table: str) -> list[Method]:
        """The methods of a table that have a run, in the table's order."""
        methods = [
            (row["backbone"], row["regularizer"]) for row in self.autoencoders["tables"].get(table, [])
        ]
        return [method for method in methods if self.runs_of(method)]

    def runs_of(self, method: Method) -> list[Run]:
        return [run for run in self.runs.values() if _method(run) == method]

    def fact(self, method: Method, key: str) -> Any:
        """What the method's runs say that does not depend on the seed; None where it is not said."""
        return next((run[key] for run in self.runs_of(method) if run.get(key) is not None), None)

    def values(self, method: Method, metric: str) -> SeedValues | None:
        """A metric of the method's runs, by seed; of those that have it."""
        return _values(metric, {run["seed"]: run["metrics"] for run in self.runs_of(method)})

    def audited(self, method: Method, metric: str) -> SeedValues | None:
        """A number of the audits of the method's runs, by seed."""
        return _values(metric, {run["seed"]: run["audit"] or {} for run in self.runs_of(method)})

    def band_errors(self, method: Method) -> dict[tuple[float, float], SeedValues]:
        """Spectral error in dB of each band (low, high) in Hz of the method's runs, by seed."""
        found = {run["seed"]: run["band_errors"] for run in self.runs_of(method) if run["band_errors"]}
        first = next(iter(found.values()), {"edges_hz": []})
        return {
            tuple(edges): SeedValues({seed: each["error_db"][band] for seed, each in found.items()})
            for band, edges in enumerate(first["edges_hz"])
        }

    @property
    def kinds(self) -> list[str]:
        """The generators that some autoencoder was probed with."""
        return list(dict.fromkeys(kind for each in self.probed_reports() for kind in each["generators"]))

    @property
    def budgets(self) -> list[int]:
        return [] if self.generators is None else sorted(self.generators["settings"]["budgets"])

    def probed(self, kind: str | None = None) -> list[Method]:
        """The methods that have a generator (of this kind), in the order of the generators' JSON."""
        reports = self.probed_reports()
        return list(
            dict.fromkeys(
                _method(each["run"]) for each in reports if kind is None or kind in each["generators"]
            )
        )

    def generated(self, method: Method, kind: str, metric: str, budget: int) -> SeedValues | None:
        """A metric of one kind of generator on the method's latents, by seed of autoencoder and generator."""
        runs = {
            (seed, run["seed"]): run
            for seed, report in self._reports(method, kind).items()
            for run in report["runs"]
            if run["budget"] == budget
        }
        return _values(metric, runs)

    def reconstructed(self, method: Method, kind: str, metric: str) -> SeedValues | None:
        """The same metric of real clips through the method's autoencoders, by seed."""
        reports = self._reports(method, kind)
        return _values(metric, {seed: report["reconstruction"] for seed, report in reports.items()})

    def _reports(self, method: Method, kind: str) -> dict[int, Run]:
        """What is told of one kind of generator, by the seed of the autoencoder."""
        return {
            each["run"]["seed"]: each["generators"][kind]
            for each in self.probed_reports()
            if _method(each["run"]) == method and kind in each["generators"]
        }

    def probed_reports(self) -> list[Run]:
        """What is told of each autoencoder that has generators."""
        return [] if self.generators is None else list(self.generators["autoencoders"].values())


def _method(run: Run) -> Method:
    return run["backbone"], run["regularizer"]


def _values(metric: str, reports: Mapping[Hashable, Run]) -> SeedValues | None:
    """The metric of those reports that have it."""
    scale = 100 if metric in SHARES else 1
    there = {seed: report.get(metric) for seed, report in reports.items()}
    found = {seed: scale * value for seed, value in there.items() if value is not None}
    return SeedValues(found) if found else None
