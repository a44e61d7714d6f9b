"""The paired probe of the tables' autoencoders: the same small generators on the latents of each.

One autoencoder with one seed is a process of its own; the last call reads what all of them have left behind.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.checkpoints import EXPORT_NAME
from star_hf.audit import common_rate, inspect_codec
from star_hf.probe import Judge, ProbeClips, ProbeSettings, assemble_document, open_clips, probe_codec
from star_hf.probe.ranking import rank
from study.held_out import HeldOut
from study.runs import Run
from tables.auditing import load_run_codec
from tables.experiments import PROBED, Experiment

SCRIPT = "reproduce_tables.py"
#: What differs from the probe's defaults: with two autoencoders of each kind, one generator on each.
BUDGET = {"budgets": (150, 600), "seeds": (0,)}
#: Settings of the probe that follow from the study: its generators, its split, its recordings.
RESERVED = ("generators", "held_out_fraction", "seed")


def probe_settings(held_out: HeldOut, changes: Mapping[str, Any]) -> ProbeSettings:
    """The probe's settings; its clips are held out as the autoencoders' are.

    Raises `ValueError` for a setting that there is not, that follows from the study, or that is out of range.
    """
    for name in changes:
        if name in RESERVED or name not in ProbeSettings.__dataclass_fields__:
            known = ", ".join(field for field in ProbeSettings.__dataclass_fields__ if field not in RESERVED)
            raise ValueError(f"unknown key 'probe.{name}'; known: {known}")
    try:
        return ProbeSettings(**{**BUDGET, **changes}, held_out_fraction=held_out.rule[0])
    except (TypeError, ValueError) as error:
        raise ValueError(f"probe: {error}") from error


class Generators:
    """The probes of a study below `folder`."""

    def __init__(self, held_out: HeldOut, settings: ProbeSettings, folder: Path) -> None:
        self.held_out, self.settings, self.folder = held_out, settings, folder
        self._clips: ProbeClips | None = None

    @property
    def clips(self) -> ProbeClips:
        if self._clips is None:
            held_out = self.held_out
            self._clips = open_clips(
                held_out.dataset(),
                self.settings,
                name=held_out.settings()["dataset"],
                audio_column=held_out.audio_column,
                key_column=held_out.rule[1],
            )
        return self._clips

    def is_finished(self, run: Run, generator: str, seed: int) -> bool:
        return self._record(run, f"{generator}-seed{seed}").is_file()

    def probe(
        self, run: Run, generators: Sequence[str], seeds: Sequence[int], judge: Judge | None = None
    ) -> dict[str, Any]:
        """The probe's entry of an autoencoder; what is finished is read."""
        settings = replace(self.settings, generators=tuple(generators), seeds=tuple(seeds))
        codec = load_run_codec(run)
        return probe_codec(
            codec, run.name, self.clips, settings, self.folder, judge=judge, progress=_announced
        )

    def document(self, runs: Mapping[Experiment, Run]) -> dict[str, Any] | None:
        """What `generators.json` holds of all that is finished; None where nothing is.

        `autoencoders` are named as the runs are; `missing` lists the generators that are not there yet.
        """
        wanted = [
            (run, experiment, generator, seed)
            for experiment, run in runs.items()
            for generator in PROBED.get(experiment.kind, ())
            for seed in self.settings.seeds
        ]
        finished = [each for each in wanted if self.is_finished(each[0], *each[2:])]
        if not finished:
            return None
        folders = {run.name: inspect_codec(run.folder / EXPORT_NAME) for run, *_ in finished}
        rate = self.settings.metric_rate or common_rate([codec.sampling_rate for codec in folders.values()])
        kinds = dict.fromkeys(generator for _, _, generator, _ in finished)
        settings = replace(self.settings, metric_rate=rate, generators=tuple(kinds))
        judge = Judge(self.clips, settings)
        entries: dict[str, dict[str, Any]] = {}
        for run, experiment, generator, seeds in _by_generator(finished):
            entry = self.probe(run, [generator], seeds, judge)
            first = entries.setdefault(run.name, {**entry, "run": _facts(experiment)})
            first["generators"] |= entry["generators"]
        document = rank(assemble_document(entries, self.clips, settings, judge, self.folder))
        document["missing"] = [
            {"autoencoder": run.name, "generator": generator, "seed": seed}
            for run, _, generator, seed in wanted
            if not self.is_finished(run, generator, seed)
        ]
        document["minutes"] = sum(map(_seconds, entries.values())) / 60
        return document

    def jobs(self, runs: Mapping[Experiment, Run], argv: Sequence[str]) -> list["ProbeJob"]:
        """What to run for all of it, the first seed of generators and autoencoders first."""
        found: list[ProbeJob] = []
        for seed in self.settings.seeds:
            for experiment, run in runs.items():
                generators = PROBED.get(experiment.kind)
                if generators:
                    found.append(ProbeJob(run, generators, seed, self, tuple(argv)))
        return found

    def _record(self, run: Run, part: str) -> Path:
        return self.folder / "runs" / run.name / f"{part}.json"


@dataclass(frozen=True)
class ProbeJob:
    """One autoencoder probed with one seed, as a process; see `study.execution.Training`."""

    run: Run
    generators: tuple[str, ...]
    seed: int
    probes: Generators
    study_argv: tuple[str, ...]

    script = SCRIPT

    @property
    def name(self) -> str:
        return f"{self.run.name}_generator{self.seed}"

    @property
    def folder(self) -> Path:
        return self.probes.folder / "consoles" / self.name

    @property
    def argv(self) -> list[str]:
        own = {"only": "generators", "probe_one": self.run.name, "probe.seeds": f"[{self.seed}]"}
        inherited = _without_options(self.study_argv, {*own, "jobs"})
        return [*inherited, *(word for key, value in own.items() for word in (f"--{key}", value))]

    @property
    def command(self) -> str:
        return shlex.join(["python", f"training/{self.script}", *self.argv])

    @property
    def steps(self) -> int:
        return self.probes.settings.budgets[-1]

    @property
    def after(self) -> str | None:
        """Those of one autoencoder share what is measured of it without a generator: the first writes it."""
        seeds = self.probes.settings.seeds
        place = seeds.index(self.seed)
        return None if place == 0 else replace(self, seed=seeds[place - 1]).name

    def check_plan(self) -> None:
        """A record that was made from something else is refused when it is read."""

    def begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def is_finished(self) -> bool:
        return all(self.probes.is_finished(self.run, name, self.seed) for name in self.generators)


def _without_options(argv: Sequence[str], names: set[str]) -> list[str]:
    """A command line without some of its options and their values."""
    kept, keeping = [], True
    for word in argv:
        if word.startswith("--"):
            keeping = word.removeprefix("--").partition("=")[0] not in names
        if keeping:
            kept.append(word)
    return kept


@contextmanager
def _announced(description: str, total: int) -> Iterator[Callable[[], object]]:
    """A `Progress` of one line for each part."""
    print(f"{description} ({total})", flush=True)
    yield lambda: None


def _by_generator(
    finished: Iterable[tuple[Run, Experiment, str, int]],
) -> Iterator[tuple[Run, Experiment, str, tuple[int, ...]]]:
    """The seeds of each autoencoder and generator."""
    seeds: dict[tuple[str, str], tuple[Run, Experiment, list[int]]] = {}
    for run, experiment, generator, seed in finished:
        seeds.setdefault((run.name, generator), (run, experiment, []))[2].append(seed)
    for (_, generator), (run, experiment, found) in seeds.items():
        yield run, experiment, generator, tuple(found)


def _facts(experiment: Experiment) -> dict[str, Any]:
    return {
        "backbone": experiment.backbone,
        "regularizer": experiment.regularizer,
        "seed": experiment.seed,
    }


def _seconds(entry: Mapping[str, Any]) -> float:
    """Of encoding, training and sampling."""
    total = entry["encoding_seconds"]
    for report in entry["generators"].values():
        # the time of a budget contains that of the smaller ones
        training = {run["seed"]: run["training_seconds"] for run in report["runs"]}
        total += sum(training.values()) + sum(run["sampling_seconds"] for run in report["runs"])
    return total
