"""Which runs a folder of recipes asks for: a shared Phase I, and one run from it for each method."""

from pathlib import Path
from typing import Any

from engine.arguments import read_recipe
from study.runs import Run, leaves

PHASE1, COMMON, CONTROL = "phase1", "common", "control"
#: Where the recipes look for Phase I, the teacher and the captions; another output_dir moves all of it.
RECIPES_OUTPUT = "runs/regularizers"


def method_recipes(folder: Path) -> dict[str, Path]:
    """The recipes of the methods by name, the control first.

    Raises `ValueError` when Phase I or the control is missing.
    """
    recipes = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    for name in (PHASE1, CONTROL):
        if name not in recipes:
            raise ValueError(f"recipes {str(folder)!r} has no {name}.yaml")
    methods = {name: path for name, path in recipes.items() if name not in (PHASE1, COMMON, CONTROL)}
    return {CONTROL: recipes[CONTROL], **methods}


def make_run(
    name: str,
    recipe: Path,
    output_dir: Path,
    changes: dict[str, Any],
    start: dict[str, Any] | None = None,
    threads: int | None = None,
) -> Run:
    """A run in `output_dir/name`, with everything that its recipe expects in `RECIPES_OUTPUT` found there."""
    places = {"output_dir": str(output_dir / name)}
    if threads is not None:
        places["threads"] = str(threads)
    for key, value in _inside_output(recipe):
        if output_dir != Path(RECIPES_OUTPUT):
            places[key] = str(output_dir / value)
    return Run(name, recipe, output_dir / name, changes, places, start)


def needs(recipe: Path) -> set[str]:
    """What the recipe expects beside Phase I in `RECIPES_OUTPUT`, by the folder's name."""
    return {value.parts[0] for _, value in _inside_output(recipe)} - {PHASE1}


def _inside_output(recipe: Path) -> list[tuple[str, Path]]:
    """Values that lie in `RECIPES_OUTPUT`, relative to it, by dotted name."""
    return [
        (key, Path(value).relative_to(RECIPES_OUTPUT))
        for key, value in leaves(read_recipe(recipe))
        if key != "output_dir" and isinstance(value, str) and value.startswith(f"{RECIPES_OUTPUT}/")
    ]
