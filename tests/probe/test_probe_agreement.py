"""Rank correlations of few items: closed forms, ties, and what seeds have in common."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from scipy.stats import spearmanr

from star_hf.probe.agreement import agreement


def _scores(*seeds):
    """Columns of values, one for each seed, by autoencoder."""
    return {f"vae {row}": dict(enumerate(values)) for row, values in enumerate(zip(*seeds, strict=True))}


def test_closed_forms():
    first, second = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]
    entry = agreement(_scores(first), _scores(second))
    squares = sum((a - b) ** 2 for a, b in zip(first, second, strict=True))
    assert entry["spearman"] == pytest.approx(1 - 6 * squares / (5 * (25 - 1)))
    assert entry["kendall"] == pytest.approx((8 - 2) / 10)  # two of ten pairs are turned round
    turned = agreement(_scores(first), _scores(second), -1)
    assert turned["spearman"] == pytest.approx(-entry["spearman"])
    assert turned["kendall"] == pytest.approx(-entry["kendall"])


def test_ties_share_their_rank():
    entry = agreement(_scores([1.0, 1.0, 2.0, 3.0]), _scores([1.0, 2.0, 3.0, 4.0]))
    # ranks 1.5, 1.5, 3, 4 about their mean, with 1, 2, 3, 4 about theirs
    assert entry["spearman"] == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert entry["kendall"] == pytest.approx(5 / (5 * 6) ** 0.5)


@pytest.mark.parametrize("number", [4, 5, 6])
def test_chance_of_a_perfect_order(number):
    values = [float(value) for value in range(number)]
    entry = agreement(_scores(values), _scores(values))
    assert entry["chance"] == pytest.approx(1 / np.prod(np.arange(1, number + 1)))
    assert entry["verdict"] == "agrees"
    worst = agreement(_scores(values), _scores(values), -1)
    assert worst["chance"] == 1 and worst["verdict"] == "not shown"


def test_chance_of_many_is_estimated():
    values = [float(value) for value in range(9)]
    assert 0 < agreement(_scores(values), _scores(values))["chance"] < 0.001
    assert agreement(_scores(values), _scores(values[::-1]))["chance"] == 1


def test_chance_moves_all_seeds_of_an_autoencoder_together():
    columns = np.random.default_rng(0).standard_normal((4, 5))
    first, second = columns[:2], columns[2:]
    entry = agreement(_scores(*first), _scores(*second))

    def mean_rho(order):
        return statistics.fmean(spearmanr(first[i], second[1 - i][list(order)]).statistic for i in (0, 1))

    orders = [mean_rho(order) for order in itertools.permutations(range(5))]
    assert entry["other_seeds"]["spearman"] == pytest.approx(mean_rho(range(5)))
    assert entry["chance"] == pytest.approx(np.mean([rho >= mean_rho(range(5)) - 1e-9 for rho in orders]))


def test_seeds_that_agree_with_themselves_only():
    """One seed has them rise, the other fall: each predicts itself and contradicts the other."""
    rising, falling = [1.0, 2.0, 3.0, 4.0], [40.0, 30.0, 20.0, 10.0]
    entry = agreement(_scores(rising, falling), _scores(rising, falling))
    assert entry["spearman"] == pytest.approx(1)
    assert entry["other_seeds"] == {"spearman": pytest.approx(-1), "kendall": pytest.approx(-1), "pairs": 2}
    assert entry["verdict"] == "not shown"
    itself = agreement(_scores(rising, falling), _scores(rising, falling), other_seeds_only=True)
    assert itself["spearman"] is None and itself["other_seeds"] == entry["other_seeds"]


def test_one_seed_is_judged_by_its_means():
    entry = agreement(_scores([1.0, 2.0, 3.0, 4.0]), _scores([1.0, 2.0, 3.0, 4.0]))
    assert entry["other_seeds"] is None and entry["chance"] == pytest.approx(1 / 24)


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_no_claim_of_few(number):
    values = [float(value) for value in range(number)]
    entry = agreement(_scores(values, values), _scores(values, values))
    assert entry["autoencoders"] == number
    assert entry["chance"] is None and entry["verdict"] == "too few"
    assert entry["spearman"] == (pytest.approx(1) if number > 1 else None)


def test_equal_values_have_no_order():
    entry = agreement(_scores([1.0] * 4, [1.0] * 4), _scores([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]))
    assert entry["spearman"] is entry["kendall"] is entry["chance"] is None
    assert entry["other_seeds"] == {"spearman": None, "kendall": None, "pairs": 2}
    assert entry["verdict"] == "no order"


def test_only_what_both_have_is_compared():
    first = {"a": {0: 1.0}, "b": {0: 2.0}, "only here": {0: 3.0}}
    second = {"b": {None: 5.0}, "a": {None: 6.0}}
    entry = agreement(first, second)
    assert entry["autoencoders"] == 2 and entry["spearman"] == pytest.approx(-1)
