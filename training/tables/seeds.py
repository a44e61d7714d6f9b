"""A number over the seeds of a method: its mean, how far the seeds are apart, and how two methods compare."""

import statistics
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from comparison.metrics import Metric
from study.pages import number

Better = Literal["less", "more"]
Verdict = Literal["agrees", "contradicts", "not decided"]
AGREES, CONTRADICTS, UNDECIDED = "agrees", "contradicts", "not decided"


@dataclass(frozen=True)
class SeedValues:
    """One number for each seed; at least one."""

    by_seed: Mapping[Hashable, float]

    @property
    def values(self) -> list[float]:
        return list(self.by_seed.values())

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    @property
    def spread(self) -> float:
        """From the lowest to the highest seed."""
        return self.high - self.low

    def text(self, digits: int = 4) -> str:
        """Mean ± half of the spread, with as many decimals as the mean needs; of one seed its value."""
        mean = number(self.mean, digits)
        if len(self.by_seed) < 2:
            return mean
        decimals = len(mean.partition(".")[2])
        return f"{mean} ± {self.spread / 2:.{decimals}f}"


@dataclass(frozen=True)
class Outcome:
    """What a comparison says of a claim, and why it says nothing."""

    verdict: Verdict
    reasons: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return self.verdict + (f" ({'; '.join(self.reasons)})" if self.reasons else "")


def is_better(first: SeedValues, second: SeedValues, metric: Metric, better: Better) -> Outcome:
    """Whether the first method is better than the second, by their seeds.

    It is decided when the ranges over the seeds do not overlap and the means differ by more than either range
    and more than the metric's floor, a share of the second method's value. One seed decides nothing.
    """
    sign = 1 if better == "less" else -1
    gain = sign * (second.mean - first.mean)
    spread = max(first.spread, second.spread)
    if min(len(first.by_seed), len(second.by_seed)) < 2:
        return Outcome(UNDECIDED, ("one seed",))
    if max(first.low, second.low) <= min(first.high, second.high):
        return Outcome(UNDECIDED, ("the seeds overlap",))
    if abs(gain) <= spread:
        return Outcome(UNDECIDED, ("the difference is below the spread of the seeds",))
    if abs(gain) <= metric.threshold(second.mean, spread):
        floor = f"{metric.floor:g} {metric.unit}".strip() if metric.absolute else f"{metric.floor:.0%}"
        return Outcome(UNDECIDED, (f"the difference is below {floor}",))
    return Outcome(AGREES if gain > 0 else CONTRADICTS)


def all_of(outcomes: Iterable[Outcome]) -> Outcome:
    """Of a claim that needs several comparisons: one that contradicts is enough to contradict it."""
    outcomes = list(outcomes)
    for verdict in (CONTRADICTS, UNDECIDED):
        found = [outcome for outcome in outcomes if outcome.verdict == verdict]
        if found:
            reasons = (reason for outcome in found for reason in outcome.reasons)
            return Outcome(verdict, tuple(dict.fromkeys(reasons)))
    return Outcome(AGREES)


def seed_by_seed(first: SeedValues, second: SeedValues, better: Better) -> str | None:
    """ "in 2 of 2 seeds", the first being better than the second at the same seed; None of too few pairs."""
    shared = [seed for seed in first.by_seed if seed in second.by_seed]
    if len(shared) < 2:
        return None
    sign = 1 if better == "less" else -1
    wins = sum(sign * (second.by_seed[seed] - first.by_seed[seed]) > 0 for seed in shared)
    return f"in {wins} of {len(shared)} seeds"
