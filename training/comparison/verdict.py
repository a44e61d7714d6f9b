"""What is said of each method: which metrics moved beside the control by more than a threshold."""

from collections.abc import Mapping, Sequence
from typing import Any

from comparison.metrics import METRICS, Metric
from comparison.recipes import CONTROL
from study.pages import number


def thresholds(control: Mapping[str, Any], repeats: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The smallest change of each metric that counts: the control's spread over its seeds, or a floor.

    `control` and `repeats` are metrics by key; a metric that the control does not have gets `None`.
    """
    result: dict[str, float | None] = {}
    for key, metric in METRICS.items():
        values = [run[key] for run in (control, *repeats) if run.get(key) is not None]
        own = control.get(key)
        result[key] = None if own is None else metric.threshold(own, max(values) - min(values))
    return result


def moved(
    metrics: Mapping[str, Any], control: Mapping[str, Any], limits: Mapping[str, float | None]
) -> list[Metric]:
    """The metrics that both have and that differ by more than the threshold, the largest change first."""
    changes = {}
    for key, metric in METRICS.items():
        own, reference, limit = metrics.get(key), control.get(key), limits.get(key)
        if own is not None and reference is not None and limit is not None and abs(own - reference) > limit:
            changes[key] = (abs(own - reference) / limit, metric)
    return [metric for _, metric in sorted(changes.values(), key=lambda change: -change[0])]


def sentence(name: str, result: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """One sentence on what moved beside the control, or that nothing did."""
    control = document["methods"][CONTROL]
    changes = moved(result["metrics"], control["metrics"], document["thresholds"])
    if not changes:
        text = f"**{name}** does nothing measurable at this size"
    else:
        parts = [
            _change(metric, control["metrics"][metric.key], result["metrics"][metric.key])
            for metric in changes
        ]
        text = f"**{name}** moves " + ", ".join(parts)
    if result["metrics"]["rate_kbps"] is None:
        capacity = result["metrics"]["capacity_kbps"]
        text += "; its posterior has no KL"
        text += "" if capacity is None else f", its capacity is {number(capacity, 3)} kbit/s"
    if result["updates"] != control["updates"]:
        text += f"; its autoencoder made {result['updates']} updates, the control's {control['updates']}"
    return text + "."


def _change(metric: Metric, before: float, after: float) -> str:
    unit = f" {metric.unit}" if metric.unit else ""
    digits = metric.digits
    # as many digits as it takes to tell them apart
    while number(before, digits) == number(after, digits) and digits < 6:
        digits += 1
    verdict = ""
    if metric.better is not None:
        verdict = " (better)" if (after < before) == (metric.better == "less") else " (worse)"
    return f"{metric.title} {number(before, digits)} → {number(after, digits)}{unit}{verdict}"
