"""Do two measurements put autoencoders in the same order? Rank correlations of a handful of items."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Values by autoencoder and seed; what has no seed is under None.
Scores = dict[str, dict[int | None, float]]
Pair = tuple[Sequence[float], Sequence[float]]

FEWEST = 4  # of three autoencoders one order in six is right by chance, of four one in 24
CHANCE = 0.05
ORDERS = 9999  # tried at random where there are more; of up to seven autoencoders all are tried


def agreement(
    first: Scores, second: Scores, sign: int = 1, *, other_seeds_only: bool = False
) -> dict[str, Any]:
    """Rank correlation of two measurements over the autoencoders that have both, for JSON.

    Args:
        first: the measurement that predicts.
        second: the one that is predicted.
        sign: −1 where more of one is better and less of the other: 1 is always the same order of merit.
        other_seeds_only: leave out what one seed has in common, for a measurement with itself.

    Returns a dict with

    - `autoencoders`: how many there are;
    - `spearman` and `kendall`: ρ, and τ-b, of the means over the seeds;
    - `other_seeds`: `spearman` and `kendall` of one seed's values with another's, as the mean over all
      ordered pairs of different seeds, and their number `pairs`; None where there are none. Runs of one seed
      share initial weights and noise, and agree for that reason, too;
    - `chance`: the share of all orders of the autoencoders that agree at least as well, judged by
      `other_seeds` where there are any, else by the means; None of less than four autoencoders;
    - `verdict`: "agrees" where `chance` is at most 0.05, "not shown" where it is more, "too few" of less than
      four autoencoders, "no order" where one side has equal values only.

    A correlation with equal values only is None.
    """
    names = [name for name in first if name in second]
    means = _columns(names, [(first, None), (second, None)], sign)
    pairs = [
        _columns(names, [(first, seed), (second, other)], sign)
        for seed, other in itertools.product(_seeds(names, first), _seeds(names, second))
        if seed != other
    ]
    chance = _chance(pairs or ([] if other_seeds_only else [means])) if len(names) >= FEWEST else None
    return {
        "autoencoders": len(names),
        "spearman": None if other_seeds_only else _spearman(means),
        "kendall": None if other_seeds_only else _kendall(means),
        "other_seeds": _averages(pairs) if pairs else None,
        "chance": chance,
        "verdict": _verdict(len(names), chance),
    }


def _seeds(names: Sequence[str], scores: Scores) -> list[int]:
    """The seeds that every autoencoder has."""
    shared = set.intersection(*(set(scores[name]) for name in names)) if names else set()
    return sorted(seed for seed in shared if seed is not None)


def _columns(names: Sequence[str], sides: Sequence[tuple[Scores, int | None]], sign: int) -> Pair:
    """Both sides' values, autoencoder by autoencoder: of a seed, or (None) their means."""

    def value(by_seed: Mapping[int | None, float], seed: int | None) -> float:
        return statistics.fmean(by_seed.values()) if seed is None else by_seed[seed]

    (first, seed), (second, other) = sides
    return [value(first[name], seed) for name in names], [sign * value(second[name], other) for name in names]


def _averages(pairs: Sequence[Pair]) -> dict[str, Any]:
    return {
        "spearman": _mean([_spearman(pair) for pair in pairs]),
        "kendall": _mean([_kendall(pair) for pair in pairs]),
        "pairs": len(pairs),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _has_order(pair: Pair) -> bool:
    return all(len(set(values)) > 1 for values in pair)


def _spearman(pair: Pair) -> float | None:
    from scipy.stats import spearmanr

    return float(spearmanr(*pair).statistic) if _has_order(pair) else None


def _kendall(pair: Pair) -> float | None:
    from scipy.stats import kendalltau

    return float(kendalltau(*pair).statistic) if _has_order(pair) else None


def _chance(pairs: Sequence[Pair]) -> float | None:
    """The one-sided permutation test of the pairs' mean ρ; each autoencoder's seeds stay together."""
    from scipy.stats import permutation_test, rankdata

    pairs = [pair for pair in pairs if _has_order(pair)]
    if not pairs:
        return None
    number = len(pairs[0][0])
    products = np.zeros((number, number))  # of standard ranks, so that its diagonal sums to ρ
    for pair in pairs:
        ranks = [rankdata(values) - (number + 1) / 2 for values in pair]
        products += np.outer(*(rank / np.linalg.norm(rank) for rank in ranks)) / len(pairs)

    def mean_rho(order: np.ndarray, axis: int = -1) -> np.ndarray:
        return products[np.arange(number), order].sum(axis=axis)

    test = permutation_test(
        (np.arange(number),),
        mean_rho,
        permutation_type="pairings",
        alternative="greater",
        vectorized=True,
        n_resamples=ORDERS,
        random_state=0,
    )
    return float(test.pvalue)


def _verdict(number: int, chance: float | None) -> str:
    if number < FEWEST:
        return "too few"
    if chance is None:
        return "no order"
    return "agrees" if chance <= CHANCE else "not shown"
