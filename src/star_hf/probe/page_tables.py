"""The tables of the probe's page: who ranks where, and which number predicts which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .ranking import RunTable
from .report_text import (
    CORRELATION_COLUMNS,
    correlation_row,
    correlation_tables,
    counted,
    number,
    title_and_arrow,
)

TABLES_CSS = """
td[rowspan] { min-width: 14rem; }
td.best { font-weight: 600; } td.number small { font-weight: 400; }
tbody + tbody { border-top: 2px solid var(--line); }
"""


def ranking_html(table: RunTable) -> str:
    """Rows for each metric: the reconstruction where it has the metric, then each budget."""
    budgets = table.document["ranking"][table.generator]
    blocks = []
    for metric in table.metrics:
        rows = []
        reconstruction = table.reconstruction(metric)
        if reconstruction:
            values = (number(reconstruction.get(name, {}).get(None)) for name in table.reports)
            cells = "".join(f'<td class="number">{value}</td>' for value in values)
            rows.append(f"<td>reconstruction</td>{cells}<td></td>")
        for entry in budgets:
            cells = _ranked_cells(table, entry["metrics"][metric])
            rows.append(f"<td>{counted(entry['budget'], 'step')}</td>{cells}")
        rows[0] = _metric_cell(table, metric, len(rows)) + rows[0]
        blocks.append("<tbody>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</tbody>")
    head = "".join(f"<th>{escape(name)}</th>" for name in ["", "", *table.reports, "undecided"])
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>{"".join(blocks)}</table></div>\n'
        f"<p class='soft'>{_ranking_note(budgets[-1])}</p>"
    )


def correlations_html(table: RunTable) -> str:
    """The rank correlations, question by question, and how to read them."""
    correlation = table.document["correlation"][table.generator]
    if correlation["autoencoders"] < 2:
        return "<p>Of one autoencoder nothing can be correlated.</p>"
    parts = [f"<p>{_CORRELATION}</p>"]
    for question, entries in correlation_tables(correlation):
        rows = [correlation_row(table.document, entry) for entry in entries]
        parts.append(f"<p><b>{escape(question)}</b></p>\n{table_html(CORRELATION_COLUMNS, rows, numbers=5)}")
    return "\n".join(parts)


def table_html(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """A plain table; the `numbers` columns after the first are set flush right."""
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    for row in rows:
        classes = [' class="number"' if 0 < column <= numbers else "" for column in range(len(row))]
        cells = zip(classes, row, strict=True)
        lines.append("".join(f"<td{style}>{escape(cell)}</td>" for style, cell in cells))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table>{body}</table></div>'


def _metric_cell(table: RunTable, metric: str, rows: int) -> str:
    facts = table.document["metrics"][metric]
    unit = f", {facts['unit']}" if facts["unit"] else ""
    return (
        f'<td rowspan="{rows}">{escape(title_and_arrow(table.document, metric) + unit)}'
        f"<small>{escape(facts['definition'])}</small></td>"
    )


def _ranked_cells(table: RunTable, order: Mapping[str, Any]) -> str:
    places = {place["name"]: place for place in order["order"]}
    cells = []
    for name in table.reports:
        if name not in places:
            cells.append('<td class="number">–</td>')
            continue
        place = places[name]
        best = " best" if name in order["may_be_best"] and len(places) > 1 else ""
        low, high = number(place["min"]), number(place["max"])
        spread = "" if place["std"] is None else f"<small>{low} to {high}</small>"
        cells.append(f'<td class="number{best}">{number(place["mean"])}{spread}</td>')
    pairs = [" ≈ ".join(pair) for pair in order["undecided"]]
    undecided = ["all"] if 1 < len(pairs) == len(places) - 1 else pairs
    cells.append("<td>" + "".join(f"<small>{escape(pair)}</small>" for pair in undecided) + "</td>")
    return "".join(cells)


def _ranking_note(entry: Mapping[str, Any]) -> str:
    if entry["apart_by_chance"] is None:
        test = "One seed has no range, so that all are undecided."
    else:
        test = (
            f"That is a weak test: the ranges over {entry['seeds']} seeds of two equal autoencoders lie "
            f"apart in {entry['apart_by_chance']:.1%} of all cases."
        )
    return f"{_RANKING} {test} {_RECONSTRUCTION}"


_RANKING = (
    "↓ less is better, ↑ more. Means over the seeds, and below them the lowest and the highest. Bold are the "
    "best and all that are undecided against it. Two neighbours are undecided where the ranges of their "
    "seeds overlap."
)
_RECONSTRUCTION = (
    "Reconstructed are all held-out clips, another number than is generated, and distances of few clips are "
    "larger: compare that row across autoencoders, not with the rows below it."
)
_CORRELATION = (
    "Spearman's ρ and Kendall's τ over the autoencoders, turned such that +1 is the same order of merit and "
    "−1 the reverse. The first two are of the means over the seeds. Runs of one seed share initial weights "
    "and noise, and a small budget is the first part of the largest, so that they agree more than a new "
    "training would: the second two compare different seeds only, and are averages over all pairs. Chance is "
    "the share of all orders that agree at least as well; “agrees” is said up to 5%, which one in twenty "
    "rows without any relation reaches, too. Of less than four autoencoders no order is improbable enough to "
    "claim anything."
)
