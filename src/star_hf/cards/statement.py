"""What only a person knows of a model: `about.md` beside its measurements.

Its front matter goes into the card's metadata (`license`, `language`, `datasets`, `base_model`, `tags`, …).
Its text in front of the first heading is the card's summary; the sections named in `SECTIONS` take their
places in the card, and further ones follow the measured generation. Numbers are written as
`{{ generation.settings.seed }}`: they come from the JSON as all others do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

STATEMENT_FILE = "about.md"
#: Key in the templates, title of the section.
SECTIONS = {
    "use": "Intended use and limits",
    "data": "Training data",
    "recipe": "Recipe",
    "differences": "What differs from the paper",
    "licence": "Licence",
}


@dataclass(frozen=True)
class Statement:
    """`metadata` and, not rendered yet, the `text` below it."""

    metadata: dict[str, Any] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True)
class Sections:
    """The parts of a rendered text: `summary`, the `known` ones by key, `further` ones by title."""

    summary: str
    known: dict[str, str]
    further: dict[str, str]


def read_statement(folder: Path) -> Statement:
    """`about.md` in a folder of measurements; an empty statement where there is none."""
    file = folder / STATEMENT_FILE
    if not file.is_file():
        return Statement()
    content = file.read_text(encoding="utf-8")
    if not content.startswith("---"):
        return Statement({}, content)
    try:
        card = ModelCard(content)
    except Exception as error:  # PyYAML's own errors, which say the line
        raise ValueError(f"{file}: its front matter cannot be read ({error})") from None
    metadata = card.data.to_dict()
    if "model-index" in metadata:
        raise ValueError(f"{file}: its front matter has a model-index; results come from the measurements")
    return Statement(metadata, card.text)


def split_sections(text: str) -> Sections:
    """Cut a text at its headings of the second level; those inside code are left alone.

    Raises `ValueError` for a title that comes twice.
    """
    parts: dict[str, list[str]] = {"": []}
    title, in_code = "", False
    for line in text.splitlines():
        in_code ^= line.startswith("```")
        if line.startswith("## ") and not in_code:
            title = line.removeprefix("## ").strip()
            if title in parts:
                raise ValueError(f"{STATEMENT_FILE}: the section {title!r} comes twice")
            parts[title] = []
        else:
            parts[title].append(line)
    texts = {title: "\n".join(lines).strip() for title, lines in parts.items()}
    titles = {title.lower(): key for key, title in SECTIONS.items()}
    summary = texts.pop("")
    known = {titles[title.lower()]: text for title, text in texts.items() if title.lower() in titles}
    return Sections(
        summary=summary,
        known={key: known.get(key, "") for key in SECTIONS},
        further={title: text for title, text in texts.items() if title.lower() not in titles},
    )
