"""One claim of a paper, and how comparisons of methods over their seeds decide it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from comparison.metrics import Metric
from star_hf.probe.report_text import listed
from tables.seeds import (
    AGREES,
    CONTRADICTS,
    UNDECIDED,
    Better,
    Outcome,
    SeedValues,
    all_of,
    is_better,
    seed_by_seed,
)


@dataclass(frozen=True)
class Claim:
    """One claim of a paper; `outcome` is None where the runs that it needs are not there."""

    name: str
    in_paper: str
    outcome: Outcome | None = None
    evidence: str = ""


def ordered(
    name: str,
    values: Mapping[str, SeedValues | None],
    wanted: Sequence[tuple[str, str]],
    metric: Metric,
    better: Better,
    in_paper: str,
) -> Claim:
    """The claim that in each pair of `wanted` the first is better than the second."""
    complete = [pair for pair in wanted if None not in (values[pair[0]], values[pair[1]])]
    if not complete:
        return Claim(name, in_paper)
    outcomes = {pair: is_better(values[pair[0]], values[pair[1]], metric, better) for pair in complete}
    there = {label: value for label, value in values.items() if value is not None}
    outcome = _together(outcomes)
    missing = ", ".join(label for label in values if label not in there)
    if missing:
        outcome = all_of([outcome, Outcome(UNDECIDED, (f"not measured: {missing}",))])
    title = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
    evidence = f"{title}: " + "; ".join(f"{label} {value.text()}" for label, value in there.items())
    if outcome.verdict == UNDECIDED and len(wanted) == 1:
        first, second = wanted[0]
        wins = seed_by_seed(there[first], there[second], better)
        evidence += "" if wins is None else f"; {first} is ahead {wins}"
    return Claim(name, in_paper, outcome, evidence)


def _together(outcomes: Mapping[tuple[str, str], Outcome]) -> Outcome:
    """All must agree; the reasons name the methods that they are about."""
    contradicted = [pair for pair, outcome in outcomes.items() if outcome.verdict == CONTRADICTS]
    if contradicted:
        losers, winners = (list(dict.fromkeys(labels)) for labels in zip(*contradicted, strict=True))
        verb = "is" if len(winners) == 1 else "are"
        return Outcome(CONTRADICTS, (f"{listed(winners)} {verb} ahead of {listed(losers)}",))
    common = set.intersection(*map(set, outcomes))
    about: dict[str, list[str]] = {}
    for pair, outcome in outcomes.items():
        for reason in outcome.reasons:
            about.setdefault(reason, []).extend(label for label in pair if label not in common)
    if about:
        reasons = (f"{why} ({listed(labels)})" if labels else why for why, labels in about.items())
        return Outcome(UNDECIDED, tuple(reasons))
    return Outcome(AGREES)
