"""The commands of a `bash` block, as bash would read them.

Only what a page should need: comments, continued lines, quotes, variables, patterns of file names,
`NAME=value` in front of a command, `> file` for its output, `;` and `&&`. All else is refused, so that no
page holds a command that is not tested.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from glob import glob

ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
SEPARATORS = ("&&", ";", ">")
REFUSED = "|<>&;`()!"
#: Stands before a character that was quoted and means itself.
QUOTED = "\0"


class ShellError(ValueError):
    """A line that this reader of shell commands does not know, or that is none."""


@dataclass(frozen=True)
class Line:
    """A whole line, continued ones joined; `number` is that of its first one in the block, from 0."""

    number: int
    text: str


@dataclass
class Command:
    """The words of one command, the variables that are set for it, and the file that takes its output."""

    words: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    output: str | None = None


def lines(block: str) -> Iterator[Line]:
    """The lines of a block, without empty ones and comments."""
    parts: list[str] = []
    for number, line in enumerate(block.splitlines()):
        parts.append(line)
        if line.endswith("\\"):
            continue
        text = " ".join(part.removesuffix("\\").strip() for part in parts)
        if text and not text.startswith("#"):
            yield Line(number + 1 - len(parts), text)
        parts = []
    if parts:
        raise ShellError(f"the last line ends in a backslash: {parts[-1].strip()}")


def commands(
    text: str, variables: Mapping[str, str], files: Callable[[str], list[str]] = glob
) -> list[Command]:
    """The commands of one line in order; `files` lists what a pattern of file names matches.

    Raises `ShellError` for syntax that is refused, and for a variable that has no value.
    """
    found = [Command()]
    redirected = False
    for word in _words(text):
        if word == ">":
            redirected = True
        elif word in SEPARATORS:
            found.append(Command())
        elif redirected:
            found[-1].output, redirected = _expand(word, variables), False
        elif (assignment := ASSIGNMENT.fullmatch(word)) and not found[-1].words:
            found[-1].environment[assignment[1]] = _expand(assignment[2], variables)
        else:
            pattern = _expand(word, variables)
            is_pattern = re.search(rf"(?<!{QUOTED})[*?]", word)
            found[-1].words += (sorted(files(pattern)) if is_pattern else []) or [pattern]
    if redirected or not all(command.words or command.environment for command in found):
        raise ShellError(f"an incomplete command: {text}")
    return found


def _words(text: str) -> Iterator[str]:
    """Words with `QUOTED` before each special character that was quoted, and separators."""
    word: str | None = None
    quote, position = "", 0
    while position < len(text):
        character = text[position]
        position += 1
        if quote:
            if character == quote:
                quote = ""
            else:
                # in double quotes a dollar still is one
                special = "*?=;&>" if quote == '"' else "*?=;&>$"
                word += QUOTED + character if character in special else character
        elif character in "'\"":
            word, quote = word or "", character
        elif character == "\\" and position < len(text):
            word, position = (word or "") + QUOTED + text[position], position + 1
        elif character.isspace() or character in REFUSED or (character == "#" and word is None):
            if word is not None:
                yield word
                word = None
            if character == "#":
                return
            if not character.isspace():
                separator = next((s for s in SEPARATORS if text.startswith(s, position - 1)), None)
                if separator is None or text.startswith(">>", position - 1):
                    raise ShellError(f"{character!r} is more of a shell than these pages need: {text}")
                position += len(separator) - 1
                yield separator
        else:
            word = (word or "") + character
    if quote:
        raise ShellError(f"a quote that never ends: {text}")
    if word is not None:
        yield word


def _expand(word: str, variables: Mapping[str, str]) -> str:
    """A word with the values of its variables, and without quotes."""

    def value(match: re.Match) -> str:
        name = match[1] or match[2]
        if name not in variables:
            raise ShellError(f"the variable {name} has no value here")
        return variables[name]

    parts = re.split(f"({QUOTED}.)", word, flags=re.DOTALL)
    return "".join(part[1:] if part.startswith(QUOTED) else VARIABLE.sub(value, part) for part in parts)
