"""Templates to text: everything that they ask for must be there."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .documents import Document, MissingMeasurement
from .filters import FILTERS, checked

TEMPLATES = Path(__file__).with_name("templates")


class Absent:
    """A document that is not there: false, and for whoever asks it for something an error with its file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __bool__(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: object) -> Any:
        raise MissingMeasurement(f"{self._file}: is missing, and the card needs {name} of it")


class _Environment(ImmutableSandboxedEnvironment):
    """Sandboxed, since an `about.md` may come from somebody else."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        # What a document holds comes before the methods of a dict, and what it lacks is an error of its own.
        if isinstance(obj, Document) and (attribute in obj or not hasattr(dict, attribute)):
            return obj[attribute]
        return super().getattr(obj, attribute)


@functools.cache
def make_environment() -> ImmutableSandboxedEnvironment:
    environment = _Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters.update({name: checked(function) for name, function in FILTERS.items()})
    return environment


def render_text(text: str, values: Mapping[str, Any], source: str) -> str:
    """Render `text`. Raises `ValueError` that begins with `source`, its file."""
    environment = make_environment()
    return _rendered(lambda: environment.from_string(text).render(values), source)


def render_template(name: str, values: Mapping[str, Any]) -> str:
    """Render a template of this package; runs of empty lines become one.

    Raises `MissingMeasurement` naming file and key for a number that is not there, else `ValueError`.
    """
    environment = make_environment()
    text = _rendered(lambda: environment.get_template(name).render(values), f"template {name}")
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _rendered(render: Any, source: str) -> str:
    try:
        return render()
    except MissingMeasurement:
        raise
    except (TemplateError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise ValueError(f"{source} cannot be filled in: {error}") from error
