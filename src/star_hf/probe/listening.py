"""The kept clips of a probe, to be heard and seen on its page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..audio import AudioError, read_audio
from .ranking import RunTable, generators
from .report_text import generator_name

if TYPE_CHECKING:
    from .pictures import Clip

Document = Mapping[str, Any]

DRAWN_CLIPS = 5
LISTENING_CSS = """
figure img { width: 100%; height: auto; display: block; background: #fff; } audio { width: 11rem; }
"""


def kept_clips(document: Document) -> dict[str, list[str]]:
    """Paths of real clips, reconstructed ones, and generated ones of the largest budget and first seed."""
    rows = {"real": list(document.get("real", {}).get("audio", []))}
    reconstructed: dict[str, list[str]] = {}
    generated: dict[str, list[str]] = {}
    for generator in generators(document):
        table = RunTable(document, generator)
        several = f", {generator_name(generator)}" if len(generators(document)) > 1 else ""
        for name, report in table.reports.items():
            # no generator has a part in these: once is enough
            reconstructed[f"{name}, reconstructed"] = list(report["reconstruction"].get("audio", []))
            runs = sorted(table.runs(name, table.budgets[-1]), key=lambda run: run["seed"])
            generated[f"{name}, generated{several}"] = list(runs[0]["audio"]) if runs else []
    return {name: files for name, files in (rows | reconstructed | generated).items() if files}


def drawn_clips(document: Document, folder: Path) -> dict[str, list[Clip]]:
    """The first of the kept clips, read from the probe's folder; one that cannot be read ends its row."""
    from .pictures import Clip

    rows: dict[str, list[Clip]] = {}
    for name, files in kept_clips(document).items():
        prompts = [*document.get("prompts", []), *[""] * len(files)]
        for file, prompt in zip(files[:DRAWN_CLIPS], prompts, strict=False):
            try:
                clip = Clip(prompt, *read_audio(folder / file))
            except AudioError:
                break
            rows.setdefault(name, []).append(clip)
    return rows


def players_html(document: Document) -> str:
    """A player for each kept clip, a row for each set; nothing where no clips were kept."""
    rows = kept_clips(document)
    if not rows:
        return ""
    columns = max(map(len, rows.values()))
    prompts = [*document.get("prompts", []), *[""] * columns][:columns]
    lines = ["<tr><th></th>" + "".join(f"<th>{escape(prompt)}</th>" for prompt in prompts) + "</tr>"]
    for name, files in rows.items():
        players = "".join(
            f'<td><audio controls preload="none" src="{quote(file)}"></audio></td>' for file in files
        )
        lines.append(f"<tr><td>{escape(name)}</td>{players}</tr>")
    return f'<h2>Listen</h2>\n<p>{_CLIPS}</p>\n<div class="scroll"><table>{"".join(lines)}</table></div>'


def spectrograms_html(picture: Path) -> str:
    """A PNG as a part of the page."""
    data = base64.b64encode(picture.read_bytes()).decode()
    return (
        '<figure><img alt="Mel spectrograms, a row for each set of clips" '
        f'src="data:image/png;base64,{data}"><figcaption>The first of these clips.</figcaption></figure>'
    )


_CLIPS = (
    "Held-out clips, what each autoencoder alone makes of them, and what is generated for their captions at "
    "the largest budget with the first seed. Nothing is picked. The sounds are files beside this page."
)
