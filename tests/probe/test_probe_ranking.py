"""Who ranks where, what the seeds leave open, and what cannot be ranked."""

from __future__ import annotations

import copy
import itertools
import json
import math

import pytest
from probe_documents import follow, make_document

from star_hf.probe.ranking import apart_by_chance, rank, undecided


def _ranking(document, budget_index=-1, generator="star_gen"):
    return rank(document)["ranking"][generator][budget_index]


def _names(order):
    return [place["name"] for place in order["order"]]


def test_less_is_better_or_more_is():
    values = {"a": {4: [3.0, 3.2]}, "b": {4: [1.0, 1.2]}, "c": {4: [2.0, 2.2]}}
    metrics = _ranking(make_document(values))["metrics"]
    # the accuracies of these documents fall with the distance
    assert _names(metrics["frechet"]) == _names(metrics["accuracy"]) == ["b", "c", "a"]
    first = metrics["frechet"]["order"][0]
    assert (first["mean"], first["min"], first["max"]) == (1.1, 1.0, 1.2)
    assert first["std"] == pytest.approx(0.1 * math.sqrt(2))


def test_ranges_that_overlap_are_undecided():
    values = {"a": {4: [1.0, 3.0]}, "b": {4: [2.5, 2.6]}, "c": {4: [2.8, 4.0]}, "d": {4: [5.0, 6.0]}}
    order = _ranking(make_document(values))["metrics"]["frechet"]
    assert _names(order) == ["a", "b", "c", "d"]
    # b and c lie apart, though both may be as good as a
    assert order["undecided"] == [["a", "b"]]
    assert order["may_be_best"] == ["a", "b", "c"]


def test_one_seed_decides_nothing():
    ranking = _ranking(make_document({"a": {4: [1.0]}, "b": {4: [9.0]}, "c": {4: [5.0]}}))
    order = ranking["metrics"]["frechet"]
    assert ranking["seeds"] == 1 and ranking["apart_by_chance"] is None
    assert _names(order) == ["a", "c", "b"] and order["undecided"] == [["a", "c"], ["c", "b"]]
    assert order["may_be_best"] == ["a", "c", "b"] and order["order"][0]["std"] is None


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_chance_of_ranges_apart_counts_all_orders(seeds):
    splits = list(itertools.combinations(range(2 * seeds), seeds))
    apart = sum(not undecided(own, sorted(set(range(2 * seeds)) - set(own))) for own in splits)
    assert apart_by_chance(seeds) == apart / len(splits)


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_has_no_number_is_not_ranked(value):
    values = {"a": {4: [1.0, 2.0]}, "b": {4: follow([3.0, 4.0])}}
    values["b"][4]["frechet"] = [3.0, value]
    ranked = rank(make_document(values))
    order = ranked["ranking"]["star_gen"][0]["metrics"]["frechet"]
    assert _names(order) == ["a"] and order["missing"] == ["b"]
    # nobody has a similarity, so it is no metric of this comparison
    assert "text_similarity" not in ranked["ranking"]["star_gen"][0]["metrics"]


def test_the_document_stays_and_json_keeps_the_ranking():
    document = make_document({"a": {2: [1.0, 2.0], 4: [1.0, 2.0]}, "b": {2: [3.0, 4.0], 4: [1.5, 4.0]}})
    before = copy.deepcopy(document)
    ranked = rank(document)
    assert document == before
    assert json.loads(json.dumps(ranked, allow_nan=False)) == ranked
    assert rank(ranked) == ranked
    assert [entry["budget"] for entry in ranked["ranking"]["star_gen"]] == [2, 4]


def test_generators_are_ranked_by_themselves():
    document = make_document({"a": {4: [1.0, 1.1]}, "b": {4: [2.0, 2.1]}})
    other = make_document({"a": {4: [2.0, 2.1]}, "b": {4: [1.0, 1.1]}}, generator="dit")
    for name, report in document["autoencoders"].items():
        report["generators"] |= other["autoencoders"][name]["generators"]
    assert _names(_ranking(document)["metrics"]["frechet"]) == ["a", "b"]
    assert _names(_ranking(document, generator="dit")["metrics"]["frechet"]) == ["b", "a"]


def test_correlations_ask_the_largest_budget():
    values = {
        name: {2: [4.0 - i, 4.1 - i], 4: [i, i + 0.1], 8: [i, i + 0.1]} for i, name in enumerate("abcd", 1)
    }
    correlation = rank(make_document(values))["correlation"]["star_gen"]
    assert correlation["autoencoders"] == 4 and correlation["budgets"] == [2, 4, 8]
    by_budget = {
        (entry["predictor"], entry["budget"]): entry["spearman"] for entry in correlation["between_budgets"]
    }
    assert by_budget["frechet", 2] == by_budget["accuracy", 2] == pytest.approx(-1)
    assert by_budget["frechet", 4] == pytest.approx(1)
    assert all(entry["target_budget"] == 8 for entry in correlation["flow_loss"])
    # less loss goes with more accuracy: the same order of merit
    flow = {(entry["budget"], entry["target"]): entry["spearman"] for entry in correlation["flow_loss"]}
    assert flow[8, "accuracy"] == flow[8, "frechet"] == pytest.approx(1)
    assert flow[2, "accuracy"] == pytest.approx(-1)


def test_reconstruction_has_no_seeds():
    values = {name: {4: [i, i + 0.1]} for i, name in enumerate("abcd", 1)}
    document = make_document(values, dict(zip("abcd", [4.0, 3.0, 2.0, 1.0], strict=True)))
    entries = rank(document)["correlation"]["star_gen"]["reconstruction"]
    assert [entry["target"] for entry in entries] == ["frechet", "accuracy"]
    for entry in entries:
        assert entry["spearman"] == pytest.approx(-1) and entry["other_seeds"] is None
        assert entry["budget"] is None and entry["chance"] == 1 and entry["verdict"] == "not shown"


def test_one_budget_and_one_autoencoder_have_nothing_to_correlate():
    correlation = rank(make_document({"a": {4: [1.0, 2.0]}}))["correlation"]["star_gen"]
    assert correlation["between_budgets"] == [] and correlation["autoencoders"] == 1
    assert all(entry["spearman"] is None for entry in correlation["flow_loss"])
    alone = rank(make_document({"a": {4: [1.0, 2.0]}, "b": {4: [1.0]}}))["correlation"]["star_gen"]
    assert alone["repeated"] == []  # one of them has a single seed
