"""docs/results.md, rendered from the JSON beside it and from nothing else."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from star_hf.probe.report_text import summary
from study.pages import check_text, naming_the_folder, render_template, write_text
from tables import paper
from tables.band_comparison import NOISE_DIFFERENCE, compared_bands
from tables.claims import Claim, judge
from tables.columns import GENERATOR_NAMES, METRICS
from tables.differences import differences
from tables.documents import Documents
from tables.figures import draw_figures, figures_of
from tables.markdown import (
    backbone_table,
    detail_table,
    generation_table,
    growth_table,
    lafa_table,
    probe_table,
    rate_table,
    reconstruction_table,
)
from tables.seeds import AGREES, CONTRADICTS, UNDECIDED

TEMPLATE = Path(__file__).with_name("template.md")


def render_page(folder: Path) -> str:
    """The page as text, from `autoencoders.json` in `folder`; `timing.json` and `generators.json` may lack.

    Raises `ValueError` for a missing or incomplete file.
    """
    with naming_the_folder(folder):
        documents = Documents(folder)
        settings = documents.autoencoders["settings"]
        values = {
            **_found(judge(documents)),
            "folder": folder.name,
            "documents": documents,
            "document": documents.autoencoders,
            "missing": documents.autoencoders["missing"],
            "paper": paper,
            "generator_names": GENERATOR_NAMES,
            "settings": settings,
            "figures": figures_of(documents),
            "chance": _chance(len(settings["seeds"])),
            "differences": differences(documents),
            "tables": _tables(documents),
            "summary": _summary(documents),
            "timing": None if documents.timing is None else documents.timing["settings"],
            "probe": next((run["audit"] for run in documents.runs.values() if run["audit"]), {}),
            "bands": compared_bands(documents),
            "noise_difference": NOISE_DIFFERENCE,
            "generators_missing": _missing_generators(documents),
            "columns": _columns(documents),
            "commands": _commands(documents),
        }
        return render_template(TEMPLATE, values)


def write_page(folder: Path) -> Path:
    """Draw the figures into `folder` and write the page beside it; returns its path."""
    page = render_page(folder)
    with naming_the_folder(folder):
        draw_figures(Documents(folder), folder)
    return write_text(folder.with_suffix(".md"), page)


def check_page(folder: Path) -> None:
    """Raise `ValueError` with the first line of the page that its JSON does not render to."""
    check_text(folder.with_suffix(".md"), lambda: render_page(folder))


def _tables(documents: Documents) -> dict[str, Any]:
    """Each table as Markdown, empty where nothing of it has been measured."""
    return {
        "reconstruction": reconstruction_table(documents),
        "details": detail_table(documents),
        "probe": probe_table(documents),
        "backbones": backbone_table(documents),
        "growth": growth_table(documents),
        "rates": rate_table(documents),
        "lafa": lafa_table(documents),
        "generation": {kind: generation_table(documents, kind) for kind in documents.kinds},
    }


def _found(claims: Sequence[Claim]) -> dict[str, Any]:
    """The claims by what is said of them."""
    tested = [claim for claim in claims if claim.outcome is not None]
    return {
        "tested": tested,
        "untested": [claim.name for claim in claims if claim.outcome is None],
        "verdicts": {
            verdict: [claim.name for claim in tested if claim.outcome.verdict == verdict]
            for verdict in (AGREES, CONTRADICTS, UNDECIDED)
        },
    }


def _chance(seeds: int) -> float | None:
    """How often the seeds of two equal methods do not overlap; None of one seed."""
    return None if seeds < 2 else 2 / math.comb(2 * seeds, seeds)


def _summary(documents: Documents) -> Mapping[str, list[str]]:
    """What the generators' ranking says, by generator."""
    ranked = documents.generators is not None and "ranking" in documents.generators
    return summary(documents.generators) if ranked else {}


def _missing_generators(documents: Documents) -> list[str]:
    missing = (documents.generators or {}).get("missing", [])
    return [
        f"{GENERATOR_NAMES[each['generator']]} on {each['autoencoder']}, seed {each['seed']}"
        for each in missing
    ]


def _columns(documents: Documents) -> list[Any]:
    """The metrics that the runs have, for their definitions."""
    there = {key for run in documents.runs.values() for key in (*run["metrics"], *(run["audit"] or ()))}
    return [metric for key, metric in METRICS.items() if key in there]


def _commands(documents: Documents) -> list[str]:
    parts = (documents.autoencoders, documents.timing, documents.generators)
    return list(dict.fromkeys(part["command"] for part in parts if part is not None and "command" in part))
