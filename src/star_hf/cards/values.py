"""What the templates of cards are filled with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .architecture import Architecture
from .assets import Assets
from .documents import Document
from .measurements import AUDIT, GENERATION, RECONSTRUCTION, Measurements
from .pictures import pictures_of
from .rendering import Absent

METRIC_TITLES = {"stft_distance": "STFT distance", "mel_distance": "mel distance", "si_sdr": "SI-SDR, dB"}
_CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"


def model_values(
    name: str, kind: str, architecture: Architecture, repo_id: str | None, folder: Path | None
) -> dict[str, Any]:
    """What every card of a model in `folder` knows."""
    import star_hf

    return {
        "name": name,
        "kind": kind,
        "architecture": architecture,
        "vae": architecture.autoencoder,
        "ours": architecture.class_name in star_hf.__all__,
        # The package's own checkpoint is at hand; a Hub id comes before it.
        "embedded": repo_id is None and folder is not None and folder.resolve().parent == _CHECKPOINTS,
        "source": repo_id or name,
        "repo_id": repo_id,
    }


def measured_values(measurements: Measurements, assets: Assets, command: str | None) -> dict[str, Any]:
    """What a card of a measured model knows besides; `command` renders it."""
    folder = measurements.folder
    reconstruction, generation, audit = (
        document if document is not None else Absent(folder / name)
        for name, document in (
            (RECONSTRUCTION, measurements.reconstruction),
            (GENERATION, measurements.generation),
            (AUDIT, measurements.audit),
        )
    )
    audited = measurements.audited
    return {
        "measured": True,
        "reconstruction": reconstruction,
        "generation": generation,
        "audit": audit,
        "own_name": measurements.own_name,
        "own": measurements.own,
        "metrics": _metrics(measurements.own),
        "audited": audited,
        "audit_rows": [] if audited is None else _audit_rows(audited),
        "pictures": [] if audited is None else [(name, assets.drawn(name)) for name in pictures_of(audited)],
        "variants": measurements.variants,
        "examples": measurements.examples,
        "runs": _runs(measurements),
        "documents": {name: assets.link(name) for name in measurements.documents},
        "commands": [*_commands(measurements), *([command] if command else [])],
        "link": assets.link,
        "has": assets.has,
        "audio": assets.audio,
    }


def nothing_measured(folder: Path) -> dict[str, Any]:
    """The same for one of which nothing was measured."""
    return {
        "measured": False,
        "reconstruction": Absent(folder / RECONSTRUCTION),
        "generation": Absent(folder / GENERATION),
        "audit": Absent(folder / AUDIT),
        "own": None,
        "audited": None,
        "variants": {},
        "examples": (),
        "runs": {},
        "documents": {},
        "commands": [],
        "has": lambda name: False,
    }


def _runs(measurements: Measurements) -> dict[str, Document]:
    """How each part was trained, as far as the measurements tell."""
    runs = {}
    if measurements.reconstruction is not None:
        for name, result in measurements.reconstruction["autoencoders"].items():
            if "training" in result:
                runs[f"autoencoder, {name}"] = result["training"]
    if measurements.generation is not None and "training" in measurements.generation["pipeline"]:
        runs["generator"] = measurements.generation["pipeline"]["training"]
    return runs


def _metrics(own: Document | None) -> dict[str, str]:
    """Key and title of each metric of reconstruction: what has a mean over clips."""
    measured = [key for key, value in (own or {}).items() if isinstance(value, dict) and "clips" in value]
    return {key: METRIC_TITLES.get(key, key.replace("_", " ")) for key in measured}


def _commands(measurements: Measurements) -> list[str]:
    commands = [document.get("command") for document in measurements.documents.values()]
    return [command for command in commands if command]


def _audit_rows(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Label, value and meaning of the audit's numbers, those that this autoencoder has."""
    from ..audit.table import ROWS

    try:
        rows = [(label, value(report), form, meaning) for label, meaning, value, form in ROWS]
    except (IndexError, TypeError) as error:
        raise ValueError(f"{AUDIT}: is not as `star-hf audit` writes it ({error})") from error
    return [
        (label, format(value, form), meaning) for label, value, form, meaning in rows if value is not None
    ]
