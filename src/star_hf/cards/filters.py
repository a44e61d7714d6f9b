"""How values are written in a card."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Undefined

NOTHING = "–"
#: What each regularizer of the training recipes reads; a run records the settings of all of them.
_SETTINGS = {
    "target_kl": ("target_kbps", "target_weight"),
    "target_kl_star": ("target_kbps", "target_weight", "beta_min", "beta_max", "growth", "gamma"),
    "sigma_vae": ("sigma",),
    "soft_normalization": ("channel_moment_weight",),
}


def number(value: float | None, digits: int | None = None) -> str:
    """With so many significant digits, in plain notation; all of them by default."""
    if value is None:
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is no number")
    return f"{value:g}" if digits is None else f"{float(f'{value:.{digits}g}'):g}"


def percent(share: float | None) -> str:
    """A share in percent, with three significant digits."""
    number(share)  # refuses what is none
    return NOTHING if share is None else f"{number(100 * share, 3)}%"


def parameters(count: int | None) -> str:
    """A number of parameters, in millions or thousands."""
    if count is None:
        return NOTHING
    return f"{count / 1e6:.2f}M" if count >= 1e5 else f"{count / 1e3:.1f}K"


def weakest(per_class: Mapping[str, float]) -> str:
    """The class with the least share, and the share."""
    label = min(per_class, key=lambda name: per_class[name])
    return f"{words(label)}, {percent(per_class[label])}"


def spread(summary: Mapping[str, float]) -> str:
    """Mean ± standard deviation."""
    return f"{summary['mean']:.2f} ± {summary['std']:.2f}"


def pairs(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def regularizer(settings: Mapping[str, Any] | None) -> str:
    """A regularizer of the training recipes with the settings that it reads."""
    if not settings:
        return ""
    name = settings["name"]
    if name == "isotropic":
        return f"isotropic, β {settings['beta']:g}"
    if name == "star":
        exponent = f", γ {settings['gamma']:g}" if settings["growth"] == "gamma" else ""
        betas = f"β {settings['beta_min']:g} to {settings['beta_max']:g}"
        return f"STAR, {betas}, {settings['growth']} growth{exponent}"
    used = [key for key in _SETTINGS.get(name, ()) if key in settings]
    return ", ".join([words(name), *(f"{words(key)} {_plain(settings[key])}" for key in used)])


def shaped(record: Mapping[str, Any]) -> str:
    """What a configuration records of how its latents were shaped, the last phase first."""
    told = regularizer(record)
    if record.get("losses"):
        told += f" (loss weights: {pairs(record['losses'])})"
    if record.get("latent_noise"):
        told += f" with noise of {number(record['latent_noise'])} in the latents"
    return f"{told}, after {shaped(record['after'])}" if record.get("after") else told


def confusion(counts: Mapping[str, Mapping[str, int]]) -> str:
    """A table of what was asked for (rows) and heard (columns)."""
    columns = list(dict.fromkeys(column for row in counts.values() for column in row))
    lines = [f"| | {' | '.join(words(column) for column in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for label, row in counts.items():
        cells = [
            f"**{row.get(column, 0)}**" if column == label else str(row.get(column, 0) or "")
            for column in columns
        ]
        lines.append(f"| {words(label)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def machine(facts: Mapping[str, Any]) -> str:
    """A machine in general terms: its GPU, else its threads and what they can do."""
    if facts["gpu"]:
        return facts["gpu"]
    threads = f"{facts['threads']} thread{'s' if facts['threads'] != 1 else ''}"
    return f"{threads} of a {facts['architecture']} CPU with {facts['cpu_capability']}"


def cell(text: object) -> str:
    """Text in a table's cell: on one line, its bars escaped."""
    return " ".join(str(text).split()).replace("|", "\\|")


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}"


def words(name: str) -> str:
    return str(name).replace("_", " ")


def _plain(value: Any) -> str:
    return number(value) if isinstance(value, (int, float)) else str(value)


def checked(function: Callable[..., str]) -> Callable[..., str]:
    """A filter that, given an undefined value, lets it raise the error that names it."""

    def filter_(value: Any, *arguments: Any) -> str:
        return function(str(value) if isinstance(value, Undefined) else value, *arguments)

    return filter_


FILTERS = {
    "number": number,
    "percent": percent,
    "parameters": parameters,
    "shaped": shaped,
    "weakest": weakest,
    "spread": spread,
    "pairs": pairs,
    "regularizer": regularizer,
    "confusion": confusion,
    "machine": machine,
    "cell": cell,
    "count": count,
    "words": words,
    "json": lambda value: json.dumps(value, ensure_ascii=False),
}
