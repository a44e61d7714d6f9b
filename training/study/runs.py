"""A training run of a study: its recipe, its folder, its plan, and whether it is finished."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.arguments import read_recipe
from engine.checkpoints import EXPORT_NAME, Checkpoints, read_state
from measurement import run_arguments, write_json

ROOT = Path(__file__).parents[2]
PLAN_NAME = "plan.json"
#: Keys of a recipe that do not change what is trained.
SECONDARY = (
    "output_dir",
    "log_every",
    "validate_every",
    "report_every",
    "report_clips",
    "report_to",
    "save_every",
    "keep_last",
    "threads",
)


@dataclass(frozen=True)
class Run:
    """One training run: its recipe, its folder, and what the command line adds to the recipe.

    `changes` alter what is trained (steps, seed, data), `places` only say where things lie and how many
    threads there are. `start` is the plan of the run whose weights it starts from, `after` that run's name
    when both are trained together.
    """

    name: str
    recipe: Path
    folder: Path
    changes: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    start: dict[str, Any] | None = None
    after: str | None = None

    @property
    def script(self) -> str:
        return "train_lafa.py" if self.recipe.stem.startswith("lafa") else "train_autoencoder.py"

    @property
    def argv(self) -> list[str]:
        options = {"config": _short(self.recipe), **self.changes, **self.places}
        return [word for key, value in options.items() for word in (f"--{key}", str(value))]

    @property
    def command(self) -> str:
        """The command as a reader would type it, without the folders of this machine."""
        return shlex.join(["python", f"training/{self.script}", *map(without_folders, self.argv)])

    @property
    def steps(self) -> int:
        """Optimizer steps. Raises `ValueError` for a recipe whose budget is not a number of steps."""
        values = {**read_recipe(self.recipe), **self.changes}
        if not values.get("max_steps") or values.get("max_minutes"):
            raise ValueError(
                f"recipe {str(self.recipe)!r} must set max_steps and no max_minutes: runs are compared after "
                "equal steps"
            )
        return int(values["max_steps"])

    def plan(self) -> dict[str, Any]:
        """All that decides what the run trains, without where things lie."""
        changes = dict(self.changes)
        if "data.source" in changes:
            changes["data.source"] = Path(str(changes["data.source"])).name
        recipe = {key: value for key, value in read_recipe(self.recipe).items() if key not in SECONDARY}
        return json.loads(json.dumps({"recipe": recipe, "changes": changes, "start": self.start}))

    def state(self) -> dict[str, Any] | None:
        """The trainer's state at the latest checkpoint."""
        checkpoint = Checkpoints(self.folder / "checkpoints", 1).latest()
        return None if checkpoint is None else read_state(checkpoint)

    def is_finished(self) -> bool:
        state = self.state()
        return state is not None and state["step"] >= self.steps and (self.folder / EXPORT_NAME).is_dir()

    def keeps_plan(self) -> bool:
        """Whether the run in the folder was begun with this plan."""
        return self._begun() == self.plan()

    def check_plan(self) -> None:
        """Raise `ValueError` when the folder holds a run that was begun with another plan.

        Its recipe, Phase I or the command line has changed since.
        """
        begun, plan = self._begun(), self.plan()
        if begun is not None and begun != plan and self.state() is not None:
            first, second = dict(leaves(begun)), dict(leaves(plan))
            changed = [key for key in dict.fromkeys([*first, *second]) if first.get(key) != second.get(key)]
            shown = ", ".join(f"{key}: {first.get(key)} became {second.get(key)}" for key in changed)
            raise ValueError(
                f"{str(self.folder)!r} holds a run of other settings ({shown}): remove it, or use another "
                "output_dir"
            )

    def begin(self) -> None:
        """Write down the plan."""
        write_json(self.folder / PLAN_NAME, self.plan())

    def differences(self, other: "Run") -> dict[str, Any]:
        """What this run was told and the other was not, by dotted name; `None` for what it has not.

        Of two scripts, whose options differ, the recipes are compared, and only what this one's says.
        """
        alike = self.script == other.script
        own, base = (
            dict(leaves(run_arguments(run.folder) if alike else read_recipe(run.recipe)))
            for run in (self, other)
        )
        keys = [key for key in (dict.fromkeys([*own, *base]) if alike else own) if key not in SECONDARY]
        changed = {key: own.get(key) for key in keys if own.get(key) != base.get(key)}
        return {
            key: without_folders(value) if isinstance(value, str) else value for key, value in changed.items()
        }

    def _begun(self) -> dict[str, Any] | None:
        file = self.folder / PLAN_NAME
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def leaves(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested dicts."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _short(path: Path) -> str:
    """Relative to the working directory where it lies inside."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def without_folders(word: str) -> str:
    """An absolute path tells about the machine; what lies in the repository is named from there."""
    path = Path(word)
    if not path.is_absolute():
        return word
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
