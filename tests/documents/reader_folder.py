"""The folder in which a reader of the pages works: a checkout of the repository, with recordings."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
from lent_models import FOLDERS, Lender
from markdown_pages import ROOT

RATE, SECONDS, FOLDS = 44100, 1.5, 4
#: Label, caption and pitch of each kind of recording; 0 for noise.
SOUNDS = (
    ("rain", "rain falling", 0),
    ("rooster", "a rooster crowing", 660),
    ("clock_tick", "a clock ticking", 1760),
)
#: What commands of pages may write into is copied; what is only read is linked.
COPIED = ("training", "model_cards", "docs")
LINKED = ("src", "benchmarks", "constraints.txt", "Makefile", "pyproject.toml")
DATA = "shared/data/esc10/train"


def write_recordings(folder: Path) -> None:
    """Twelve clips of a second and a half, of three labels in four folds, with metadata.csv."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    time = np.arange(int(RATE * SECONDS)) / RATE
    rows = ["file_name,text,label,fold,freesound_id"]
    for fold in range(1, FOLDS + 1):
        for label, caption, pitch in SOUNDS:
            tone = np.sin(2 * np.pi * pitch * (1 + 0.02 * fold) * time) * np.exp(-2 * (time % 0.5))
            samples = 0.3 * tone if pitch else 0.1 * random.standard_normal(len(time))
            name = f"{label}_{fold}.wav"
            soundfile.write(folder / name, samples, RATE)
            rows.append(f"{name},{caption},{label},{fold},{100 * fold + len(rows)}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


class ReaderFolder:
    """A checkout below `place`, as a reader has it: `folder` is where commands run.

    Args:
        place: an empty folder.
        lender: has what may be named without having been made.
    """

    def __init__(self, place: Path, lender: Lender) -> None:
        self.folder = place / "checkout"
        self.folder.mkdir(parents=True)
        self._lender = lender
        for name in COPIED:
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in LINKED:
            (self.folder / name).symlink_to(ROOT / name)
        for copied in (place / DATA, self.folder / "recordings"):
            shutil.copytree(lender.recordings, copied)
        for suffix in ("wav", "flac"):
            samples, rate = soundfile.read(lender.recordings / "rooster_1.wav")
            soundfile.write(self.folder / f"recording.{suffix}", samples, rate)

    def lend(self, names: Iterable[object]) -> None:
        """Put what others have made where `names` name it, or something in it, and nothing is there yet."""
        for name in names:
            for lent in FOLDERS:
                wanted = str(name).rpartition("=")[2].removeprefix("./").rstrip("/")
                inside = wanted == lent or wanted.startswith(f"{lent}/")
                if inside and not (self.folder / lent).exists():
                    shutil.copytree(self._lender(lent), self.folder / lent)
