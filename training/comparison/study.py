"""The whole comparison: Phase I, what the methods need, their runs, their numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison.extras import CAPTIONS, TEACHER, TeacherSettings, make_captions, make_teacher, read_facts
from comparison.page import COMPARISON_NAME, SWEEP_NAME
from comparison.recipes import CONTROL, PHASE1, RECIPES_OUTPUT, make_run, method_recipes, needs
from comparison.results import assemble, assemble_sweep
from engine.arguments import group, option
from measurement import write_json
from study.execution import Trainings
from study.held_out import HeldOut, measured
from study.runs import ROOT, Run

SWEPT = "target_kl"
SWEPT_OPTION = "regularizer.target_kbps"


@dataclass
class TeacherArguments:
    steps: int = option(TeacherSettings.steps, "of the teacher's training, about two minutes")
    label_column: str = option("label", "column with the class that it is taught")


@dataclass
class ComparisonArguments:
    only: list[str] = option([], "methods to train and measure, by name: a,b; default: all")
    sweep: list[float] = option([], f"rates in kbit/s: train {SWEPT} at each, instead of the methods")
    render: bool = option(False, "only render the page again from its JSON")
    check: bool = option(False, "only check that the page is what its JSON renders to")
    recipes: str = option(str(ROOT / "training" / "recipes" / "regularizers"), "folder of the recipes")
    output_dir: str = option(RECIPES_OUTPUT, "folder of the runs")
    docs: str = option(str(ROOT / "docs" / "regularizers"), "folder of the JSON; the page is beside it")
    data: str | None = option(None, "another data.source than the recipes'")
    steps: int | None = option(None, "other max_steps than the methods' recipes")
    phase1_steps: int | None = option(None, "other max_steps than Phase I's recipe")
    control_seeds: list[int] = option(
        [1], "seeds of the control's repetitions, whose spread is the threshold"
    )
    jobs: int = option(1, "runs at a time")
    threads: int | None = option(None, "PyTorch's threads in each run; default: the recipe's")
    teacher: TeacherArguments = group(TeacherArguments)

    def check_values(self) -> None:
        """Raise `ValueError` for values that nothing can be compared with."""
        for name in ("jobs", "steps", "phase1_steps", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.teacher.steps < 1:
            raise ValueError(f"teacher.steps must be at least 1, got {self.teacher.steps}")
        if not self.control_seeds:
            raise ValueError(
                "control_seeds must name a seed: without a spread no change can be told from chance"
            )
        if any(not rate > 0 for rate in self.sweep):
            raise ValueError(f"sweep must hold rates in kbit/s greater than 0, got {self.sweep}")
        if self.sweep and self.only:
            raise ValueError("sweep trains one method at several rates: leave `only` out")

    def names(self) -> list[str]:
        """`only` as names, separated by commas or as a list."""
        return [name.strip() for text in self.only for name in text.split(",") if name.strip()]


class Study:
    """The runs of one folder of recipes; what was trained or measured before is not done again."""

    def __init__(self, arguments: ComparisonArguments, argv: list[str]) -> None:
        self.arguments, self.argv = arguments, argv
        self.output, self.docs = Path(arguments.output_dir), Path(arguments.docs)
        self.recipes = method_recipes(Path(arguments.recipes))
        self.data = {} if arguments.data is None else {"data.source": arguments.data}
        steps = {} if arguments.phase1_steps is None else {"max_steps": arguments.phase1_steps}
        recipe = Path(arguments.recipes) / f"{PHASE1}.yaml"
        changes = {**self.data, **steps}
        self.phase1 = make_run(PHASE1, recipe, self.output, changes, threads=arguments.threads)
        self.held_out = HeldOut(self.phase1)
        self.trainings = Trainings(arguments.jobs)

    def compare(self) -> dict[str, str]:
        """Train and measure what was asked for, and write all that is measured; returns failures by name."""
        methods = [self._run(name, name) for name in self.recipes]
        repeats = [
            self._run(f"{CONTROL}_seed{seed}", CONTROL, {"seed": seed})
            for seed in self.arguments.control_seeds
        ]
        wanted = self.arguments.names() or list(self.recipes)
        for name in wanted:
            if name not in self.recipes:
                raise ValueError(f"only names {name!r}; known methods: {', '.join(self.recipes)}")
        # without the control and its spread nothing can be said of the others
        chosen = [*(run for run in methods if run.name in {*wanted, CONTROL}), *repeats]
        failures = self._train(chosen)
        for run in (self.phase1, *chosen):
            if run.name not in failures:
                measured(run, self.held_out)
        document = assemble(self.phase1, methods, repeats, self.held_out, self.argv)
        document["extras"] = {name: read_facts(self.output / name) for name in (TEACHER, CAPTIONS)}
        write_json(self.docs / COMPARISON_NAME, document)
        return failures

    def sweep(self) -> dict[str, str]:
        """Train and measure the swept method at each rate; returns failures by name."""
        if SWEPT not in self.recipes:
            raise ValueError(f"recipes {self.arguments.recipes!r} has no {SWEPT}.yaml to sweep")
        runs = {
            rate: self._run(f"{SWEPT}_{rate:g}kbps", SWEPT, {SWEPT_OPTION: rate})
            for rate in sorted(set(self.arguments.sweep))
        }
        failures = self._train(list(runs.values()))
        finished = {rate: run for rate, run in runs.items() if run.name not in failures}
        if finished:
            document = assemble_sweep(finished, self.phase1, self.held_out, self.argv)
            write_json(self.docs / SWEEP_NAME, document)
        return failures

    def _run(self, name: str, recipe: str, changes: dict[str, Any] | None = None) -> Run:
        """A run of a method's recipe from Phase I."""
        steps = {} if self.arguments.steps is None else {"max_steps": self.arguments.steps}
        return make_run(
            name,
            self.recipes[recipe],
            self.output,
            {**self.data, **steps, **(changes or {})},
            self.phase1.plan(),
            self.arguments.threads,
        )

    def _train(self, runs: list[Run]) -> dict[str, str]:
        """Phase I, what the runs need, and the runs; returns the runs' failures by name."""
        steps = {run.name: run.steps for run in runs}
        if len(set(steps.values())) > 1:
            raise ValueError(f"the recipes' max_steps differ and cannot be compared: {steps}")
        failed = self.trainings.train([self.phase1])
        if failed:
            raise ValueError(f"{PHASE1} failed: {failed[PHASE1]}")
        needed = set().union(*(needs(run.recipe) for run in runs))
        if TEACHER in needed:
            training, held_out = self.held_out.split()
            teacher = self.arguments.teacher
            make_teacher(
                self.output / TEACHER,
                training,
                held_out,
                self.held_out.audio_column,
                teacher.label_column,
                TeacherSettings(steps=teacher.steps),
            )
        if CAPTIONS in needed:
            make_captions(self.output / CAPTIONS)
        return self.trainings.train(runs)
