"""What the studies' pages share: Markdown rendered from JSON alone, written whole, checked against it."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, UndefinedError

from star_hf.cards.filters import FILTERS

ARROWS = {"less": " ↓", "more": " ↑", None: ""}


def render_template(template: Path, values: Mapping[str, Any]) -> str:
    """The text of a Jinja template with `values` in it; a value that is not there is an `UndefinedError`."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters.update(settings_list=_settings_list, machine=FILTERS["machine"])
    return environment.from_string(template.read_text(encoding="utf-8")).render(values)


@contextmanager
def naming_the_folder(folder: Path) -> Iterator[None]:
    """Turn a value that is missing in the JSON into a `ValueError` that names its folder."""
    try:
        yield
    except (UndefinedError, KeyError) as error:
        raise ValueError(f"the measurements in {str(folder)!r} are incomplete: {error}") from error


def write_text(target: Path, text: str) -> Path:
    """Write a text file, complete or not at all."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)
    return target


def check_text(page: Path, render: Callable[[], str]) -> None:
    """Raise `ValueError` with the first line of the page that is not what `render` returns."""
    if not page.is_file():
        raise ValueError(f"{str(page)!r} is missing: render it first")
    written, rendered = page.read_text(encoding="utf-8").splitlines(), render().splitlines()
    length = max(len(written), len(rendered))
    padded = ([*lines, *[""] * (length - len(lines))] for lines in (written, rendered))
    for line, (own, expected) in enumerate(zip(*padded, strict=True), start=1):
        if own != expected:
            raise ValueError(
                f"{str(page)!r}, line {line}, is not what its JSON renders to: {own!r} instead of "
                f"{expected!r}"
            )


def read_document(file: Path, how: str) -> dict[str, Any]:
    """The JSON of a file. Raises `ValueError` when it is missing, telling `how` it is made."""
    if not file.is_file():
        raise ValueError(f"{str(file)!r} is missing: {how}")
    return json.loads(file.read_text(encoding="utf-8"))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def number(value: float | None, digits: int) -> str:
    """So many significant digits in plain notation; a dash for what is not there."""
    if value is None:
        return "–"
    rounded = float(f"{value:.{digits}g}")
    if rounded == 0:
        return "0"
    return f"{rounded:.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def _settings_list(values: Mapping[str, Any]) -> str:
    shown = [f"`{key}: {json.dumps(value, ensure_ascii=False)}`" for key, value in values.items()]
    return "<br>".join(shown) or "nothing"
