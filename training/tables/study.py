"""The whole study: the autoencoders, their measurements, their generators; stage by stage, resumable."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.arguments import group, option
from measurement import provenance, write_json
from star_hf.audio import AudioError
from study.audience import Audience
from study.execution import Trainings
from study.held_out import HeldOut
from study.runs import ROOT, Run
from tables.auditing import AuditArguments, load_run_codec
from tables.documents import AUTOENCODERS_NAME, GENERATORS_NAME, TIMING_NAME
from tables.experiments import (
    BACKBONE_ABLATION,
    PROBED,
    RECIPES,
    Budget,
    Experiment,
    all_experiments,
    make_run,
)
from tables.generators import Generators, probe_settings
from tables.results import SCRIPT, Results
from tables.timing import TimingArguments, timed, timing_clip, timing_settings

STAGES = ("autoencoders", "measure", "timing", "generators")
OUTPUT = "runs/tables"


@dataclass
class TablesArguments:
    only: list[str] = option([], f"stages to do, of {', '.join(STAGES)}: a,b; default: all of them")
    render: bool = option(False, "only render the page again from its JSON")
    check: bool = option(False, "only check that the page is what its JSON renders to")
    runs: list[str] = option(
        [], "autoencoders to train, by name: a,b; default: all. What they start from is trained, too"
    )
    output_dir: str = option(OUTPUT, "folder of the runs")
    docs: str = option(str(ROOT / "docs" / "results"), "folder of the JSON; the page is beside it")
    recipes: str = option(str(RECIPES), "folder of phase1.yaml, phase2.yaml and lafa.yaml")
    data: str | None = option(None, "another data.source than the recipes'")
    seeds: list[int] = option([0, 1], "seeds of every autoencoder, the first one first")
    rate_seeds: list[int] = option([0], "those of them that Target-KL's rates are swept with")
    phase1_steps: int | None = option(None, "other max_steps than Phase I's recipe")
    steps: int | None = option(None, "other max_steps than Phase II's recipe")
    lafa_steps: int | None = option(None, "other max_steps than LAFA's recipe")
    jobs: int = option(1, "trainings at a time")
    threads: int | None = option(None, "PyTorch's threads in each training; default: the recipe's")
    embedder: str | None = option(
        None, "folder or Hub id of the audio model that embeds for FAD; default: log-mel statistics"
    )
    audit: AuditArguments = group(AuditArguments)
    timing: TimingArguments = group(TimingArguments)
    probe: dict[str, Any] = option({}, "settings of the generators' probe, by ProbeSettings' names")
    probe_one: str | None = option(None, "train the generators of this autoencoder only, and write no JSON")

    def check_values(self) -> None:
        """Raise `ValueError` for values that nothing can be compared with."""
        for name in ("jobs", "phase1_steps", "steps", "lafa_steps", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for stage in self.stages():
            if stage not in STAGES:
                raise ValueError(f"only names {stage!r}; known stages: {', '.join(STAGES)}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be different numbers, at least one, got {self.seeds}")
        strangers = [seed for seed in self.rate_seeds if seed not in self.seeds]
        if strangers:
            raise ValueError(f"rate_seeds must be among seeds {self.seeds}, got {strangers}")
        self.timing.check()

    def stages(self) -> list[str]:
        """`only` as names, separated by commas or as a list; all stages when it is empty."""
        return _names(self.only) or list(STAGES)

    def run_names(self) -> list[str]:
        """`runs` as names, like `only`."""
        return _names(self.runs)

    def budget(self) -> Budget:
        return Budget(self.phase1_steps, self.steps, self.lafa_steps, self.data, self.threads)


class TablesStudy:
    """The runs that the tables ask for; what was trained or measured before is not done again.

    Raises `ValueError` where the clips cannot be read, and where a run in the folder has another plan.
    """

    def __init__(self, arguments: TablesArguments, argv: list[str]) -> None:
        self.arguments, self.argv = arguments, argv
        self.output, self.docs = Path(arguments.output_dir), Path(arguments.docs)
        budget, recipes = arguments.budget(), Path(arguments.recipes)
        experiments = all_experiments(arguments.seeds, arguments.rate_seeds)
        self.runs: dict[Experiment, Run] = {
            each: make_run(each, self.output, budget, recipes) for each in experiments
        }
        self._by_name = {each.name: each for each in experiments}
        self.held_out = HeldOut(self.runs[experiments[0]])
        probes = probe_settings(self.held_out, {"embedder": arguments.embedder, **arguments.probe})
        self.generators = Generators(self.held_out, probes, self.output / "generators")
        self.trainings = Trainings(arguments.jobs)
        self._check_data()
        for run in self.runs.values():
            run.check_plan()

    def train(self) -> dict[str, str]:
        """Train the autoencoders that are wanted and not finished; returns failures by name."""
        wanted = set(self.arguments.run_names() or self._by_name)
        for name in wanted:
            if name not in self._by_name:
                raise ValueError(f"runs names {name!r}; known: {', '.join(self._by_name)}")
        wanted |= {self._by_name[name].start.name for name in wanted if self._by_name[name].start}
        return self.trainings.train([run for run in self.runs.values() if run.name in wanted])

    def measure(self) -> None:
        """Measure every autoencoder that is finished, and write all that is measured."""
        results = Results(self.runs, self.held_out, Audience(self.arguments.embedder), self.arguments.audit)
        write_json(self.docs / AUTOENCODERS_NAME, results.document(self.argv))

    def time(self) -> None:
        """Measure the inference time of the backbones, side by side."""
        seed = self.arguments.seeds[0]
        found = {
            backbone: self.runs[Experiment(backbone, training, seed)]
            for backbone, training in BACKBONE_ABLATION
        }
        found = {backbone: run for backbone, run in found.items() if run.is_finished()}
        if not found:
            raise ValueError("no backbone has been trained yet: leave `only` out")
        if self.arguments.threads is not None:
            torch.set_num_threads(self.arguments.threads)
        print(f"inference time of {', '.join(found)}", flush=True)
        started = time.monotonic()
        codecs = {backbone: load_run_codec(run) for backbone, run in found.items()}
        first = next(iter(codecs.values()))
        waveform = timing_clip(self.held_out, first, self.arguments.timing.seconds)
        times = timed(codecs, waveform, self.arguments.timing.rounds)
        document = {
            "settings": timing_settings(self.arguments.timing, first),
            "backbones": {
                backbone: {"run": found[backbone].name, **values} for backbone, values in times.items()
            },
            "minutes": (time.monotonic() - started) / 60,
            **provenance(SCRIPT, self.argv),
        }
        write_json(self.docs / TIMING_NAME, document)

    def generate(self) -> dict[str, str]:
        """Train generators on the latents of the finished autoencoders; returns failures by name."""
        finished = self._probed()
        if not finished:
            raise ValueError("no autoencoder that generators are trained on is there yet: leave `only` out")
        return self.trainings.train(self.generators.jobs(finished, self.argv))

    def collect_generators(self) -> None:
        """Write what is finished of the generators, if anything is."""
        document = self.generators.document(self._probed())
        if document is not None:
            write_json(self.docs / GENERATORS_NAME, {**document, **provenance(SCRIPT, self.argv)})

    def probe_one(self, name: str) -> None:
        """Train the generators of one autoencoder."""
        found = self._by_name
        generators = PROBED.get(found[name].kind) if name in found else None
        if generators is None:
            known = ", ".join(run for run, experiment in found.items() if experiment.kind in PROBED)
            raise ValueError(f"probe_one {name!r} has no generators; known: {known}")
        run = self.runs[found[name]]
        if not run.is_finished():
            raise ValueError(f"probe_one {name!r} has not been trained yet")
        torch.set_num_threads(self.arguments.threads or int(run.places.get("threads", 1)))
        self.generators.probe(run, generators, self.generators.settings.seeds)

    def _probed(self) -> dict[Experiment, Run]:
        """Finished autoencoders that generators are for, the first seed first."""
        kinds, seeds = list(PROBED), self.arguments.seeds
        probed = [experiment for experiment in self.runs if experiment.kind in PROBED]
        probed.sort(key=lambda experiment: (seeds.index(experiment.seed), kinds.index(experiment.kind)))
        return {each: self.runs[each] for each in probed if self.runs[each].is_finished()}

    def _check_data(self) -> None:
        try:
            self.held_out.split()
        except (ValueError, AudioError, OSError) as error:
            raise ValueError(
                f"data.source {self.held_out.data.source!r} cannot be used ({error}): give a folder of "
                "recordings or the name of a Hub dataset with --data"
            ) from error


def _names(texts: list[str]) -> list[str]:
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def minutes_spent(docs: Path) -> float:
    """Minutes of training and measuring behind the JSON in `docs`, on one process."""
    total = 0.0
    for name in (AUTOENCODERS_NAME, TIMING_NAME, GENERATORS_NAME):
        file = docs / name
        if file.is_file():
            minutes = json.loads(file.read_text(encoding="utf-8"))["minutes"]
            total += sum(minutes.values()) if isinstance(minutes, dict) else minutes
    return total
