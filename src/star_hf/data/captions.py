"""Captions from the columns of a row: templates, several columns, several captions per clip."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from string import Formatter
from typing import Any

import numpy as np
from datasets import ClassLabel, Features


class CaptionTemplates:
    """The captions that a row may be given, from templates like "{text}" or "the sound of {label}".

    A name in braces is a column, `{json.title}` a key of a column that holds a dict, `{bpm:.0f}` a number's
    format. A column may hold one value or a list of them: each makes a caption of its own. Class labels are
    written as their names where `features` knows them. A template is left out for a row that lacks one of its
    values (null or empty).

    Raises `ValueError` for a template that cannot be read, and for columns that are not there.
    """

    def __init__(self, templates: Sequence[str], features: Features | None = None) -> None:
        if isinstance(templates, str) or not templates:
            raise ValueError(f"caption templates must be a list of at least one text, got {templates!r}")
        self.templates = list(templates)
        self.labels = {
            name: feature for name, feature in (features or {}).items() if isinstance(feature, ClassLabel)
        }
        self._fields = {template: _fields(template) for template in self.templates}

    @property
    def columns(self) -> list[str]:
        """The columns that the templates name."""
        names = (name.split(".")[0] for fields in self._fields.values() for name in fields)
        return list(dict.fromkeys(names))

    def check(self, columns: Iterable[str], source: str) -> None:
        """Raise `ValueError` when a template names a column that `source` does not have."""
        columns = list(columns)
        for template, fields in self._fields.items():
            for name in fields:
                if name.split(".")[0] not in columns:
                    raise ValueError(
                        f"caption template {template!r} names {name!r}, which is not a column of {source!r}; "
                        f"its columns are {', '.join(columns)}"
                    )

    def candidates(self, row: Mapping[str, Any]) -> list[str]:
        """All captions of a row in the order of the templates; none when every template lacks a value."""
        captions = []
        for template, fields in self._fields.items():
            choices = [self._values(row, name) for name in fields]
            captions += [
                _fill(template, dict(zip(fields, values, strict=True)))
                for values in itertools.product(*choices)
            ]
        return captions

    def draw(self, row: Mapping[str, Any], random: np.random.Generator) -> str:
        """One of the candidates, each equally likely; the empty text when there is none."""
        captions = self.candidates(row)
        return captions[int(random.integers(len(captions)))] if captions else ""

    def _values(self, row: Mapping[str, Any], name: str) -> list[Any]:
        column, *keys = name.split(".")
        if column not in row:
            raise ValueError(f"a caption needs the column {column!r}; there are {', '.join(row)}")
        value = row[column]
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        if name in self.labels:
            # datasets writes a missing label as -1
            values = [self.labels[name].int2str(v) if v is not None and v >= 0 else None for v in values]
        return [value for value in values if value is not None and value != ""]


def _fields(template: str) -> list[str]:
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"caption template {template!r} cannot be read: {error}") from error
    names = [name for _, name, _, _ in pieces if name is not None]
    if "" in names:
        raise ValueError(f"caption template {template!r} has empty braces; name a column in them")
    return list(dict.fromkeys(names))


def _fill(template: str, values: Mapping[str, Any]) -> str:
    # str.format would read the dot of {json.title} as an attribute
    return "".join(
        literal + (format(values[name], spec or "") if name is not None else "")
        for literal, name, spec, _ in Formatter().parse(template)
    )
