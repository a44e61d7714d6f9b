"""What a ranked probe says, in sentences and in plain tables, the same on the page and on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .agreement import FEWEST
from .ranking import LOSS_METRICS

Document = Mapping[str, Any]
Entry = Mapping[str, Any]

ARROWS = {"less": "↓", "more": "↑"}
CORRELATION_COLUMNS = ("", "ρ", "τ", "ρ, other seeds", "τ, other seeds", "chance", "")
VERDICTS = {
    "agrees": "yes",
    "not shown": "not shown",
    "no order": "no order to compare",
    "too few": "too few have a value",
}
GENERATOR_NAMES = {"star_gen": "STAR-Gen", "dit": "DiT"}


def summary(document: Document) -> dict[str, list[str]]:
    """By generator, in sentences: who is best, what is undecided, and what predicted what."""
    return {
        generator: [
            *_best(document, budgets[-1], document["correlation"][generator]),
            *_predicted(document, document["correlation"][generator]),
        ]
        for generator, budgets in document["ranking"].items()
    }


def ranking_lines(document: Document) -> list[str]:
    """For each generator and budget a line for each metric: the autoencoders, best first."""
    lines = []
    for generator, budgets in document["ranking"].items():
        for ranking in budgets:
            lines.append(
                f"{generator_name(generator)}, {counted(ranking['budget'], 'step')}, "
                f"{counted(ranking['seeds'], 'seed')}: best first, mean (lowest to highest), ≈ undecided"
            )
            rows = [
                (title_and_arrow(document, metric), _order_text(order))
                for metric, order in ranking["metrics"].items()
            ]
            lines += _aligned(rows)
    return lines


def correlation_lines(document: Document) -> list[str]:
    """The rank correlations as tables; of few autoencoders the first one only, of one autoencoder nothing."""
    lines = []
    for generator, correlation in document["correlation"].items():
        tables = correlation_tables(correlation)
        for question, entries in tables if correlation["autoencoders"] >= FEWEST else tables[:1]:
            lines.append(f"{generator_name(generator)}: {question}")
            rows = [correlation_row(document, entry) for entry in entries]
            lines += _aligned([CORRELATION_COLUMNS, *rows], numbers=5)
    return lines


def correlation_tables(correlation: Entry) -> list[tuple[str, Sequence[Entry]]]:
    """The questions that rank correlations answer, and their entries; none of a single autoencoder."""
    if correlation["autoencoders"] < 2:
        return []
    count, largest = correlation["autoencoders"], counted(correlation["budgets"][-1], "step")
    questions = {
        "between_budgets": f"Do fewer steps order {count} autoencoders as {largest} do?",
        "repeated": f"Do {largest} with another seed order them alike?",
        "flow_loss": f"Does a loss on latents order them as what {largest} generate?",
        "reconstruction": f"Does reconstruction order them as what {largest} generate?",
    }
    return [(question, correlation[key]) for key, question in questions.items() if correlation[key]]


def correlation_row(document: Document, entry: Entry) -> tuple[str, ...]:
    """What is compared, and the values below `CORRELATION_COLUMNS`."""
    other = entry["other_seeds"] or {"spearman": None, "kendall": None}
    return (
        _compared(document, entry),
        signed(entry["spearman"]),
        signed(entry["kendall"]),
        signed(other["spearman"]),
        signed(other["kendall"]),
        "–" if entry["chance"] is None else f"{entry['chance']:.1%}",
        entry["verdict"],
    )


def generator_name(generator: str) -> str:
    return GENERATOR_NAMES.get(generator, generator)


def title_and_arrow(document: Document, metric: str) -> str:
    """The metric's title and whether less (↓) or more (↑) is better."""
    facts = document["metrics"][metric]
    return f"{facts['title']} {ARROWS[facts['better']]}"


def number(value: float | None) -> str:
    """Four significant digits."""
    return "–" if value is None else f"{value:.4g}"


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(items: Iterable[str], last: str = "and") -> str:
    """ "a, b and c"."""
    *others, final = items
    return f"{', '.join(others)} {last} {final}" if others else final


def _aligned(rows: Sequence[Sequence[str]], numbers: int = 0) -> list[str]:
    """Rows as lines; the `numbers` columns after the first are set flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if 0 < column <= numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _order_text(order: Entry) -> str:
    """ "a 1.2 (1.1 to 1.3) ≈ b 1.4 (1.2 to 1.6); c 2"."""
    undecided = {tuple(pair) for pair in order["undecided"]}
    text, before = "", None
    for place in order["order"]:
        if before is not None:
            text += " ≈ " if (before, place["name"]) in undecided else "; "
        low, high = number(place["min"]), number(place["max"])
        text += f"{place['name']} {number(place['mean'])}"
        text += "" if place["std"] is None else f" ({low} to {high})"
        before = place["name"]
    return text + (f"; no value: {', '.join(order['missing'])}" if order["missing"] else "")


def _compared(document: Document, entry: Entry) -> str:
    before, after = _title(document, entry["predictor"]), _title(document, entry["target"])
    when = "reconstructed" if entry["budget"] is None else f"{entry['budget']} steps"
    return f"{before}, {when}" + ("" if entry["predictor"] == entry["target"] else f" → {after}")


def _best(document: Document, ranking: Entry, correlation: Entry) -> list[str]:
    """Which autoencoder is first in what at this budget, and where the seeds leave it open."""
    if correlation["autoencoders"] < 2:
        return ["There is one autoencoder: nothing to rank. Its numbers get a meaning beside another one's."]
    decided: dict[str, list[str]] = {}
    ahead: dict[str, list[str]] = {}
    tied: dict[tuple[str, ...], list[str]] = {}
    for metric in [*LOSS_METRICS, *(entry["target"] for entry in correlation["reconstruction"])]:
        order = ranking["metrics"].get(metric)
        if order is None or len(order["order"]) < 2:
            continue
        title, best = _title(document, metric), order["may_be_best"]
        ahead.setdefault(best[0], []).append(title)
        if len(best) == 1:
            decided.setdefault(best[0], []).append(title)
        else:
            tied.setdefault(tuple(sorted(best)), []).append(title)
    after = f"After {counted(ranking['budget'], 'step')}"
    if ranking["seeds"] < 2:
        return [
            f"{after} of one seed nothing is decided, for one seed has no spread; "
            f"{_by_autoencoder(ahead, 'is ahead in')}."
        ]
    sentences = [
        f"{after}, {_by_autoencoder(decided, 'is best in')}."
        if decided
        else f"{after}, no autoencoder is best in anything beyond the spread of its seeds."
    ]
    if decided:
        sentences.append(
            f"The ranges over {ranking['seeds']} seeds lie apart there; those of two equal autoencoders "
            f"would in {ranking['apart_by_chance']:.0%} of all cases."
        )
    if tied:
        open_questions = "; ".join(
            f"{listed(titles)} ({listed(names, 'or')})" for names, titles in tied.items()
        )
        sentences.append(f"Undecided, since the ranges over the seeds overlap: {open_questions}.")
    return sentences


def _by_autoencoder(titles: Mapping[str, Sequence[str]], verb: str) -> str:
    return "; ".join(f"{name} {verb} {listed(those)}" for name, those in titles.items())


def _predicted(document: Document, correlation: Entry) -> list[str]:
    """Did a cheaper number give the order of the largest budget? No claim of few autoencoders."""
    count, budgets = correlation["autoencoders"], correlation["budgets"]
    if count < 2:
        return []
    if count < FEWEST:
        orders = {2: "two", 3: "six"}[count]
        return [
            f"Whether a cheaper number predicts a dearer one cannot be told from {count} autoencoders: one "
            f"order in {orders} is right by chance."
        ]
    largest = counted(budgets[-1], "step")
    headline = {*LOSS_METRICS, *(entry["target"] for entry in correlation["reconstruction"])}
    sentences = []
    for budget in budgets[:-1]:
        entries = [
            entry
            for entry in correlation["between_budgets"]
            if entry["budget"] == budget and entry["target"] in headline
        ]
        told = _outcome([(_title(document, entry["target"]), entry) for entry in entries])
        shared = all(entry["other_seeds"] is None for entry in entries)
        caution = " (Runs of one seed agree more than others would.)" if shared else ""
        sentences.append(f"Do {counted(budget, 'step')} give the order of {largest}? {told}{caution}")
    if correlation["reconstruction"]:
        target = correlation["reconstruction"][0]["target"]
        losses = [
            (f"{_title(document, entry['predictor'])} after {counted(entry['budget'], 'step')}", entry)
            for entry in correlation["flow_loss"]
            if entry["target"] == target
        ]
        sentences.append(
            f"Does a loss on latents give the order of the {_title(document, target)} of what {largest} "
            f"generate? {_outcome(losses)}"
        )
        told = _outcome(
            [(_title(document, entry["target"]), entry) for entry in correlation["reconstruction"]]
        )
        sentences.append(f"Does reconstruction give the order of what {largest} generate? {told}")
    return sentences


def _title(document: Document, metric: str) -> str:
    return document["metrics"][metric]["title"]


def _outcome(entries: Sequence[tuple[str, Entry]]) -> str:
    """ "Yes in a (ρ +0.90); not shown in b (ρ +0.20)."."""
    by_verdict: dict[str, list[str]] = {}
    for name, entry in entries:
        rho = (entry["other_seeds"] or entry)["spearman"]
        value = "" if rho is None else f" (ρ {signed(rho)})"
        by_verdict.setdefault(entry["verdict"], []).append(f"{name}{value}")
    text = "; ".join(
        f"{words} in {listed(by_verdict[verdict])}"
        for verdict, words in VERDICTS.items()
        if verdict in by_verdict
    )
    return f"{text[:1].upper()}{text[1:] or 'Not measured'}."
