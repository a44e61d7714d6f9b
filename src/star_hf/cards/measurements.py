"""A folder of measurements: the JSON documents that a card is rendered from, and what lies beside them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from .documents import Document, read_if_there
from .statement import Statement, read_statement

RECONSTRUCTION, GENERATION, AUDIT = "reconstruction.json", "generation.json", "audit.json"
ATTRIBUTION_FILE = "ATTRIBUTION.csv"
EXAMPLES = "examples"
EXAMPLE_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg")  # what browsers play
MAX_EXAMPLES = 12


@dataclass(frozen=True)
class Example:
    """A generated clip: what was asked for, with which seed, and its file below the folder."""

    prompt: str
    seed: int
    file: str


@dataclass(frozen=True)
class Measurements:
    """What was measured of a model.

    Args:
        reconstruction: of training/evaluate_autoencoder.py, one or several autoencoders by name.
        generation: of training/evaluate_generator.py.
        audit: of `star-hf audit`.
        own, audited: the model's own autoencoder in `reconstruction` and in `audit`, and its names there.
        variants: `generation.json` of the folders below, by their names: the same model trained otherwise.
        examples: the first clip of each class.
    """

    folder: Path
    reconstruction: Document | None
    generation: Document | None
    audit: Document | None
    own_name: str | None
    own: Document | None
    audited_name: str | None
    audited: Document | None
    variants: dict[str, Document]
    examples: tuple[Example, ...]
    statement: Statement

    @property
    def documents(self) -> dict[str, Document]:
        """Those that are there, by file name."""
        named = {RECONSTRUCTION: self.reconstruction, GENERATION: self.generation, AUDIT: self.audit}
        return {name: document for name, document in named.items() if document is not None}


def read_measurements(folder: Path, autoencoder: str | None = None) -> Measurements:
    """Read a folder of measurements.

    Args:
        autoencoder: name of the model's own among the measured ones; the first of each file by default.

    Raises:
        ValueError: no such folder, nothing measured in it, a file that is no JSON, or another name.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    reconstruction, generation, audit = (
        read_if_there(folder / name) for name in (RECONSTRUCTION, GENERATION, AUDIT)
    )
    if reconstruction is None and generation is None and audit is None:
        raise ValueError(f"{folder}: holds none of {RECONSTRUCTION}, {GENERATION} and {AUDIT}: measure first")
    measured = {
        name: document["autoencoders"]
        for name, document in ((RECONSTRUCTION, reconstruction), (AUDIT, audit))
        if document is not None
    }
    names = dict.fromkeys(name for autoencoders in measured.values() for name in autoencoders)
    if autoencoder is not None and autoencoder not in names:
        known = ", ".join(names) or "none"
        raise ValueError(f"autoencoder {autoencoder!r} is not among the measured ones: {known}")
    own_name, own = _own(measured.get(RECONSTRUCTION), autoencoder)
    audited_name, audited = _own(measured.get(AUDIT), autoencoder)
    return Measurements(
        folder=folder,
        reconstruction=reconstruction,
        generation=generation,
        audit=audit,
        own_name=own_name,
        own=own,
        audited_name=audited_name,
        audited=audited,
        variants=_variants(folder),
        examples=() if generation is None else _examples(folder, generation),
        statement=read_statement(folder),
    )


def read_attribution(folders: list[Path]) -> list[dict[str, str]]:
    """The recordings that a model was made from: `ATTRIBUTION.csv` in the first folder that has one.

    Raises `ValueError` naming the file for one without the columns `title`, `author` and `license`.
    """
    file = next(
        (folder / ATTRIBUTION_FILE for folder in folders if (folder / ATTRIBUTION_FILE).is_file()), None
    )
    if file is None:
        return []
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    missing = [name for name in ("title", "author", "license") if rows and name not in rows[0]]
    if missing or not rows:
        raise ValueError(f"{file}: has no {', '.join(missing) or 'rows'}")
    return rows


def _own(autoencoders: Document | None, wanted: str | None) -> tuple[str | None, Document | None]:
    if not autoencoders:
        return None, None
    name = wanted if wanted in autoencoders else next(iter(autoencoders))
    return name, autoencoders[name]


def _variants(folder: Path) -> dict[str, Document]:
    found = {file.parent.name: read_if_there(file) for file in sorted(folder.glob(f"*/{GENERATION}"))}
    return {name: document for name, document in found.items() if document is not None}


def _examples(folder: Path, generation: Document) -> tuple[Example, ...]:
    """The first clip of each class; seeds count up over the classes and their clips."""
    settings = generation["settings"]
    found = []
    for index, (label, prompts) in enumerate(settings["prompts"].items()):
        for suffix in EXAMPLE_SUFFIXES:
            file = f"{EXAMPLES}/{label}{suffix}"
            if (folder / file).is_file():
                seed = settings["seed"] + index * settings["clips_per_class"]
                found.append(Example(prompts[0], seed, file))
                break
    return tuple(found[:MAX_EXAMPLES])
