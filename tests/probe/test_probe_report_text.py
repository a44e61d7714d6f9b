"""What is said of a ranking, and what is not claimed."""

from __future__ import annotations

import pytest
from probe_documents import make_document

from star_hf.probe.ranking import rank
from star_hf.probe.report_text import correlation_lines, listed, number, ranking_lines, summary


def _summary(values, **options):
    return " ".join(summary(rank(make_document(values, **options)))["star_gen"])


def test_the_best_and_the_undecided():
    text = _summary({"ours": {4: [1.0, 1.2]}, "other": {4: [2.0, 2.2]}})
    assert "After 4 steps, ours is best in relative flow loss, Fréchet distance and right labels." in text
    assert "would in 33% of all cases" in text and "Undecided" not in text
    text = _summary({"ours": {4: [1.0, 3.0]}, "other": {4: [2.0, 2.2]}})
    assert "no autoencoder is best in anything beyond the spread of its seeds" in text
    assert "right labels (other or ours)" in text and "33%" not in text


def test_one_seed_and_one_autoencoder():
    text = _summary({"ours": {4: [1.0]}, "other": {4: [2.0]}})
    assert "nothing is decided" in text and "ours is ahead in relative flow loss" in text
    document = rank(make_document({"ours": {2: [1.0], 4: [1.0]}}))
    assert "nothing to rank" in " ".join(summary(document)["star_gen"])
    assert correlation_lines(document) == []
    assert any("Fréchet distance ↓" in line and "ours 1" in line for line in ranking_lines(document))


@pytest.mark.parametrize(("names", "orders"), [("ab", "two"), ("abc", "six")])
def test_no_claim_of_few_autoencoders(names, orders):
    values = {name: {2: [i, i + 0.1], 4: [i, i + 0.1]} for i, name in enumerate(names, 1)}
    text = _summary(values)
    assert f"cannot be told from {len(names)} autoencoders: one order in {orders} is right by chance" in text
    assert "Yes" not in text
    # the terminal has one table of them, the page has all
    headings = [line for line in correlation_lines(rank(make_document(values))) if line[0] != " "]
    assert headings == [f"STAR-Gen: Do fewer steps order {len(names)} autoencoders as 4 steps do?"]


def test_what_predicted_what():
    values = {name: {2: [i, i + 0.1], 4: [i, i + 0.1]} for i, name in enumerate("abcd", 1)}
    text = _summary(values, reconstruction=dict(zip("abcd", [2.0, 4.0, 1.0, 3.0], strict=True)))
    assert "Do 2 steps give the order of 4 steps? Yes in relative flow loss (ρ +1.00)" in text
    assert "Yes in relative flow loss after 2 steps (ρ +1.00)" in text
    assert "Does reconstruction give the order of what 4 steps generate? Not shown in Fréchet" in text
    constant = {name: {2: [1.0, 1.0], 4: [i, i + 0.1]} for i, name in enumerate("abcd", 1)}
    assert "No order to compare in relative flow loss" in _summary(constant)


def test_one_seed_flatters_the_agreement():
    values = {name: {2: [float(i)], 4: [float(i)]} for i, name in enumerate("abcd", 1)}
    assert "one seed" in _summary(values).split("give the order of 4 steps?")[1]


def test_lines_of_the_ranking():
    document = rank(make_document({"a": {4: [3.0, 3.5]}, "b": {4: [1.0, 3.0]}, "c": {4: [9.0, 9.5]}}))
    (line,) = [line for line in ranking_lines(document) if "Fréchet" in line]
    assert line.endswith("b 2 (1 to 3) ≈ a 3.25 (3 to 3.5); c 9.25 (9 to 9.5)")
    document = rank(make_document({"a": {4: [3.0, 3.5]}, "b": {4: [1.0, float("nan")]}}))
    (line,) = [line for line in ranking_lines(document) if "Fréchet" in line]
    assert line.endswith("a 3.25 (3 to 3.5); no value: b")


def test_small_words():
    assert (listed(["a"]), listed(["a", "b"]), listed("abc", "or")) == ("a", "a and b", "a, b or c")
    assert (number(None), number(0.123456), number(1234.56)) == ("–", "0.1235", "1235")
