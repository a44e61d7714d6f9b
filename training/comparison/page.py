"""docs/regularizers.md, rendered from the JSON beside it and from nothing else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, UndefinedError

from comparison.figures import plot_comparison, plot_rate_distortion
from comparison.metrics import METRICS
from comparison.recipes import CONTROL
from comparison.verdict import moved, number, sentence
from render_card import FILTERS

COMPARISON_NAME, SWEEP_NAME = "comparison.json", "rate_sweep.json"
TEMPLATE = Path(__file__).with_name("template.md")
ARROWS = {"less": " ↓", "more": " ↑", None: ""}


def render_page(folder: Path) -> str:
    """The page as text, from `comparison.json` and, if it is there, `rate_sweep.json` in `folder`.

    Raises `ValueError` for a missing or incomplete file.
    """
    document, sweep = _read(folder / COMPARISON_NAME), _read_if_there(folder / SWEEP_NAME)
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters.update(settings_list=_settings, machine=FILTERS["machine"])
    try:
        values = {
            **document,
            "document": document,
            "sweep": sweep,
            "metrics": list(METRICS.values()),
            "comparison_table": _comparison_table(document),
            "sweep_table": None if sweep is None else _sweep_table(sweep),
            "floors": _floors(),
            "runs": {**document["methods"], **document["repeats"]},
            "commands": [page["command"] for page in (document, sweep) if page is not None],
            "folder": folder.name,
            **_verdicts(document),
        }
        return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(values)
    except (UndefinedError, KeyError) as error:
        raise ValueError(f"the measurements in {str(folder)!r} are incomplete: {error}") from error


def write_page(folder: Path) -> Path:
    """Draw the figures into `folder` and write the page beside it; returns its path."""
    page = render_page(folder)
    plot_comparison(_read(folder / COMPARISON_NAME), folder / "comparison.png")
    sweep = _read_if_there(folder / SWEEP_NAME)
    if sweep is not None:
        plot_rate_distortion(sweep, folder / "rate_sweep.png")
    target = folder.with_suffix(".md")
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(target)
    return target


def check_page(folder: Path) -> None:
    """Raise `ValueError` with the first line of the page that its JSON does not render to."""
    page = folder.with_suffix(".md")
    if not page.is_file():
        raise ValueError(f"{str(page)!r} is missing: render it first")
    written, rendered = page.read_text(encoding="utf-8").splitlines(), render_page(folder).splitlines()
    length = max(len(written), len(rendered))
    padded = ([*lines, *[""] * (length - len(lines))] for lines in (written, rendered))
    for line, (own, expected) in enumerate(zip(*padded, strict=True), start=1):
        if own != expected:
            raise ValueError(
                f"{str(page)!r}, line {line}, is not what its JSON renders to: {own!r} instead of "
                f"{expected!r}"
            )


def _verdicts(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """A sentence for each method, and the names of those that moved nothing."""
    control = document["methods"][CONTROL]["metrics"]
    others = {name: result for name, result in document["methods"].items() if name != CONTROL}
    limits = document["thresholds"]
    return {
        "sentences": [sentence(name, result, document) for name, result in others.items()],
        "still": [name for name, result in others.items() if not moved(result["metrics"], control, limits)],
    }


def _comparison_table(document: Mapping[str, Any]) -> str:
    rows = [("*Phase I*", document["phase1"])]
    for name, result in document["methods"].items():
        rows.append((f"**{name}**" if name == CONTROL else name, result))
        if name == CONTROL:
            rows += [(f"control, seed {run['seed']}", run) for run in document["repeats"].values()]
    header = ["", *(metric.label + ARROWS[metric.better] for metric in METRICS.values()), "minutes"]
    cells = [[title, *_numbers(result["metrics"]), f"{result['minutes']:.1f}"] for title, result in rows]
    limits = document["thresholds"]
    cells.append(["*threshold*", *(number(limits[key], 2) for key in METRICS), ""])
    return _table(header, cells)


def _sweep_table(sweep: Mapping[str, Any]) -> str:
    header = ["target, kbit/s", "rate in training", "deviation", "held-out rate", "deviation"]
    header += [METRICS[key].title + " ↓" for key in ("stft_distance", "mel_distance")] + ["minutes"]
    cells = [
        [
            f"{point['target_kbps']:g}",
            number(point["training_kbps"], 4),
            f"{100 * point['training_deviation']:+.1f}%",
            number(point["metrics"]["rate_kbps"], 4),
            f"{100 * point['held_out_deviation']:+.1f}%",
            number(point["metrics"]["stft_distance"], 4),
            number(point["metrics"]["mel_distance"], 4),
            f"{point['minutes']:.1f}",
        ]
        for point in sweep["points"]
    ]
    return _table(header, cells)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _numbers(metrics: Mapping[str, Any]) -> list[str]:
    return [number(metrics[key], metric.digits) for key, metric in METRICS.items()]


def _floors() -> str:
    """How small a change counts at all, of each kind of metric."""
    shares = {metric.floor for metric in METRICS.values() if not metric.absolute}
    absolute = [
        f"{metric.floor:g}{' ' + metric.unit if metric.unit else ''} for {metric.title}"
        for metric in METRICS.values()
        if metric.absolute
    ]
    return ", ".join([*(f"{share:.0%} of the control's value" for share in sorted(shares)), *absolute])


def _settings(values: Mapping[str, Any]) -> str:
    shown = [f"`{key}: {json.dumps(value, ensure_ascii=False)}`" for key, value in values.items()]
    return "<br>".join(shown) or "nothing"


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"{str(file)!r} is missing: run the comparison first")
    return json.loads(file.read_text(encoding="utf-8"))


def _read_if_there(file: Path) -> dict[str, Any] | None:
    return _read(file) if file.is_file() else None
