"""The files that a card shows: where it links to, and how they get there."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

#: Beside the card, for what does not lie below its folder.
COPIES = "card"
_HUB = "https://huggingface.co"


@dataclass
class Assets:
    """Links of a card at `target` to files of the measurements in `folder`.

    Files below the card's folder are linked to where they are. A card that goes elsewhere, such as the
    `README.md` of a model, takes copies of what it shows with it, in `card/` beside it.
    """

    folder: Path
    target: Path
    repo_id: str | None = None
    #: What was linked to, relative to `folder`.
    used: dict[str, None] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """In front of every link."""
        folder, home = self.folder.resolve(), self.target.resolve().parent
        if folder.is_relative_to(home):
            below = folder.relative_to(home).as_posix()
            return "" if below == "." else f"{below}/"
        return f"{COPIES}/"

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def link(self, name: str) -> str:
        """The link to a file of the measurements. Raises `ValueError` when it is not there, or elsewhere."""
        if not (self.folder / name).resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"{name}: lies outside of {self.folder}, and a card shows only what is in it")
        if not self.has(name):
            raise ValueError(f"{self.folder / name}: is missing, and the card shows it")
        return self._link(name)

    def drawn(self, name: str) -> str:
        """The link to a picture that is drawn when the card is written."""
        return self._link(name)

    def audio(self, name: str) -> str:
        """A player. On the Hub its address must be whole to play for certain, so that it needs `repo_id`."""
        link = self.link(name)
        if self.repo_id is not None:
            link = f"{_HUB}/{self.repo_id}/resolve/main/{link}"
        return f'<audio controls src="{link}"><a href="{link}">listen</a></audio>'

    def copy(self) -> list[Path]:
        """Copy what was linked to, unless it lies where the links lead; returns the copies."""
        home = self.target.parent / COPIES
        if self.prefix != f"{COPIES}/" or self.folder.resolve() == home.resolve():
            return []
        copies = []
        for name in self.used:
            copy = home / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            temporary = copy.with_name(f".{copy.name}.tmp")
            try:
                shutil.copyfile(self.folder / name, temporary)
                os.replace(temporary, copy)
            finally:
                temporary.unlink(missing_ok=True)
            copies.append(copy)
        return copies

    def _link(self, name: str) -> str:
        self.used[name] = None
        return quote(f"{self.prefix}{name}")
