"""A command as documents name it, for others to repeat."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path


def command_line(words: Sequence[object]) -> str:
    """`star-hf` with `words`, as a shell takes it.

    Absolute paths are told from the current folder, and by their name alone where they do not lie below it:
    they tell about the machine, not about what was done.
    """
    return shlex.join(["star-hf", *(_from_here(str(word)) for word in words)])


def _from_here(word: str) -> str:
    name, equals, value = word.rpartition("=")
    path = Path(value)
    if not path.is_absolute():
        return word
    relative = Path(os.path.relpath(path))
    told = path.name if relative.parts[:1] == ("..",) else relative.as_posix()
    return f"{name}{equals}{told}"
