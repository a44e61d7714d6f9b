"""docs/regularizers.md, rendered from the JSON beside it and from nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comparison.figures import plot_comparison, plot_rate_distortion
from comparison.metrics import METRICS
from comparison.recipes import CONTROL
from comparison.verdict import moved, sentence
from study.pages import (
    ARROWS,
    check_text,
    markdown_table,
    naming_the_folder,
    number,
    read_document,
    render_template,
    write_text,
)

COMPARISON_NAME, SWEEP_NAME = "comparison.json", "rate_sweep.json"
TEMPLATE = Path(__file__).with_name("template.md")


def render_page(folder: Path) -> str:
    """The page as text, from `comparison.json` and, if it is there, `rate_sweep.json` in `folder`.

    Raises `ValueError` for a missing or incomplete file.
    """
    document, sweep = _read(folder / COMPARISON_NAME), _read_if_there(folder / SWEEP_NAME)
    with naming_the_folder(folder):
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
        return render_template(TEMPLATE, values)


def write_page(folder: Path) -> Path:
    """Draw the figures into `folder` and write the page beside it; returns its path."""
    page = render_page(folder)
    plot_comparison(_read(folder / COMPARISON_NAME), folder / "comparison.png")
    sweep = _read_if_there(folder / SWEEP_NAME)
    if sweep is not None:
        plot_rate_distortion(sweep, folder / "rate_sweep.png")
    return write_text(folder.with_suffix(".md"), page)


def check_page(folder: Path) -> None:
    """Raise `ValueError` with the first line of the page that its JSON does not render to."""
    check_text(folder.with_suffix(".md"), lambda: render_page(folder))


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
    return markdown_table(header, cells)


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
    return markdown_table(header, cells)


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


def _read(file: Path) -> dict[str, Any]:
    return read_document(file, "run the comparison first")


def _read_if_there(file: Path) -> dict[str, Any] | None:
    return _read(file) if file.is_file() else None
