"""Cards of models and of latent datasets: rendered, written, and checked against what was measured."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, ModelCard

from .architecture import check_same, measured_architecture, read_architecture
from .assets import Assets
from .documents import Document, read_if_there
from .kinds import LATENTS_FILE, check_kind, kind_of
from .measurements import AUDIT, Measurements, read_attribution, read_measurements
from .metadata import dataset_metadata, dataset_name, model_metadata
from .pictures import draw_pictures, outdated_pictures
from .rendering import render_template, render_text
from .statement import STATEMENT_FILE, Statement, read_statement, split_sections
from .values import measured_values, model_values, nothing_measured

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class CardRequest:
    """What `star-hf card` is asked for.

    Args:
        folder: of the measurements (`reconstruction.json`, `generation.json`, `audit.json`, `about.md`,
            pictures and `examples/`), or a latent dataset.
        target: file that the card is for; its links start there.
        model: folder of the model: pipeline, autoencoder, generator or adapter. By default the card tells
            what the measurements say of it.
        name: of the model; the folder's by default.
        repo_id: "user/name" on the Hub, for the code to load it and for players of audio.
        autoencoder: name of the model's own among those measured; the first by default.
        command: that renders this card, for the record.
    """

    folder: Path
    target: Path
    model: Path | None = None
    name: str | None = None
    repo_id: str | None = None
    autoencoder: str | None = None
    command: str | None = None


@dataclass(frozen=True)
class RenderedCard:
    """A card as text, of which kind of model, and the files that it shows."""

    text: str
    kind: str
    assets: Assets
    audited: Document | None


def render_card(request: CardRequest) -> RenderedCard:
    """Render a card; nothing is written.

    Raises:
        MissingMeasurement: a number that the card needs is not there, named with its file.
        ValueError: something else is missing, or the measurements are of another model.
    """
    if request.repo_id is not None and not _HUB_ID.fullmatch(request.repo_id):
        raise ValueError(f"`repo_id` must be user/name, got {request.repo_id!r}")
    assets = Assets(request.folder, request.target, request.repo_id)
    name = request.name or request.folder.resolve().name
    if (request.folder / LATENTS_FILE).is_file():
        statement = read_statement(request.folder)
        card: Any = _dataset_card(request.folder, name, request.repo_id, statement)
        return RenderedCard(str(card), "latents", assets, None)
    measurements = read_measurements(request.folder, request.autoencoder)
    architecture = measured_architecture(measurements.generation, measurements.own, measurements.audited)
    kind = _measured_kind(measurements, architecture.class_name)
    folders = [request.folder]
    if request.model is not None:
        kind = kind_of(request.model)
        measured, architecture = architecture, read_architecture(request.model, kind)
        check_same(architecture, measured, request.model)
        folders.append(request.model)
    statement = measurements.statement
    values = {
        **model_values(name, kind, architecture, request.repo_id, request.model),
        **measured_values(measurements, assets, request.command),
        "attribution": read_attribution(folders),
        "licence_id": statement.metadata.get("license"),
    }
    values["about"] = split_sections(render_text(statement.text, values, STATEMENT_FILE))
    widget = [
        {"text": example.prompt, "output": {"url": assets.link(example.file)}}
        for example in measurements.examples
    ]
    metadata = model_metadata(name, kind, architecture, measurements, statement.metadata, widget)
    card = ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{render_template(f'{kind}.md', values)}")
    return RenderedCard(str(card), kind, assets, measurements.audited)


def write_card(request: CardRequest) -> RenderedCard:
    """Render a card, draw the pictures of the audit, copy what it shows, and write it.

    Raises what `render_card` raises, and `ValueError` when the target holds something that is no card.
    """
    card = render_card(request)
    target = request.target
    if target.is_file() and not target.read_bytes().startswith(b"---"):
        raise ValueError(f"{target}: is there and is no card (it has no front matter): choose another file")
    target.parent.mkdir(parents=True, exist_ok=True)
    if card.audited is not None:
        draw_pictures(card.audited, request.folder)
    card.assets.copy()
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        temporary.write_text(card.text, encoding="utf-8")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return card


def check_card(request: CardRequest) -> None:
    """Raise `ValueError` with the first line of the target that its measurements do not render to.

    Or with a picture of the audit that shows other numbers than `audit.json`.
    """
    if not request.target.is_file():
        raise ValueError(f"{request.target}: is missing: render it first")
    written = request.target.read_text(encoding="utf-8").splitlines()
    card = render_card(request)
    rendered = card.text.splitlines()
    length = max(len(written), len(rendered))
    padded = ([*lines, *[""] * (length - len(lines))] for lines in (written, rendered))
    for line, (own, expected) in enumerate(zip(*padded, strict=True), start=1):
        if own != expected:
            raise ValueError(
                f"{request.target}, line {line}: is not what its measurements render to: {own!r} instead of "
                f"{expected!r}"
            )
    outdated = [] if card.audited is None else outdated_pictures(card.audited, request.folder)
    if outdated:
        raise ValueError(f"{request.folder / outdated[0]}: shows other numbers than {AUDIT}")


def minimal_card(
    folder: str | os.PathLike[str],
    kind: str,
    *,
    name: str | None = None,
    repo_id: str | None = None,
    license: str | None = None,
) -> ModelCard | DatasetCard:
    """A card of a model or a latent dataset of which nothing was measured: what it is and how to load it.

    It says so, and tells only what the configuration files and the headers of the weights say.

    Args:
        folder: of the model or the dataset.
        kind: one of `KINDS`; see `kind_of`.
        name: by default that of `repo_id`, else of the folder.
        repo_id: "user/name" on the Hub, for the code that loads it.
        license: identifier of the Hub, such as "apache-2.0"; the card says so where there is none.

    Raises:
        ValueError: another kind, or a file that is missing or no JSON.
    """
    check_kind(kind)
    folder = Path(folder)
    name = name or (repo_id.split("/")[-1] if repo_id else folder.resolve().name)
    statement = Statement({"license": license} if license else {})
    if kind == "latents":
        return _dataset_card(folder, name, repo_id, statement)
    architecture = read_architecture(folder, kind)
    values = {
        **model_values(name, kind, architecture, repo_id, folder),
        **nothing_measured(folder),
        "about": split_sections(""),
        "attribution": read_attribution([folder]),
        "licence_id": license,
    }
    metadata = model_metadata(name, kind, architecture, None, statement.metadata, [])
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{render_template(f'{kind}.md', values)}")


def _dataset_card(folder: Path, name: str, repo_id: str | None, statement: Statement) -> DatasetCard:
    info = read_if_there(folder / LATENTS_FILE)
    if info is None:
        raise ValueError(f"{folder / LATENTS_FILE}: is missing")
    values = {
        **nothing_measured(folder),
        "name": name,
        "kind": "latents",
        "source": repo_id or name,
        "info": info,
        "encoded": dataset_name(info["source"]),
        "attribution": read_attribution([folder]),
        "licence_id": statement.metadata.get("license"),
    }
    values["about"] = split_sections(render_text(statement.text, values, STATEMENT_FILE))
    metadata = dataset_metadata(name, info, statement.metadata)
    return DatasetCard(f"---\n{metadata.to_yaml()}\n---\n\n{render_template('latents.md', values)}")


def _measured_kind(measurements: Measurements, class_name: str) -> str:
    if measurements.generation is not None:
        return "pipeline"
    return "lafa" if class_name == "AutoencoderLafa" else "autoencoder"
