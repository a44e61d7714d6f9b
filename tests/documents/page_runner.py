"""Runs the blocks of a page in order, as a reader does who copies each of them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
import shell_lines
from markdown_pages import ROOT, Block
from reader_programs import Programs
from repository_scripts import Failure

#: What pages leave to the reader to fill in, and what a shell has.
VARIABLES = {"MACHINE": "0", "FIRST_MACHINE": "127.0.0.1"}
#: Lines of output that a failure shows.
SHOWN_LINES = 15
#: Stands for anything in output that a page shows.
ELLIPSIS = "…"
UNITS = ("s", "min", "h", "B", "kB", "MB", "GB", "kiB", "MiB", "GiB")


class PageError(AssertionError):
    """A block that does not do what a reader would expect, and where it stands."""

    def __init__(self, page: str, line: int, what: str, printed: str = "") -> None:
        tail = "\n".join(printed.rstrip().splitlines()[-SHOWN_LINES:])
        super().__init__(f"{page}:{line}: {what}" + (f"\n--- printed ---\n{tail}" if tail else ""))


class PageRunner:
    """The state between the blocks of one page: Python's names, the shell's variables, what was printed."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.variables: dict[str, str] = {}
        self.last: Block | None = None
        self.printed = ""
        self.languages: dict[str, Callable[[Block], None]] = {
            "python": self.python,
            "bash": self.bash,
            "text": self.text,
            "yaml": self.yaml,
            "json": self.json,
            "toml": self.toml,
            "bibtex": self.bibtex,
        }

    def run(self, blocks: Iterable[Block]) -> None:
        """Raises `PageError` at the first block that fails, and for a language that is not known here."""
        for block in blocks:
            if block.language not in self.languages:
                what = f"the language {block.language!r}" if block.language else "a block without a language"
                known = ", ".join(self.languages)
                raise PageError(block.page, block.line - 1, f"{what}; known are {known}")
            self.languages[block.language](block)

    def python(self, block: Block) -> None:
        output, start = io.StringIO(), time.process_time()
        file = str(ROOT / block.page)
        try:
            # the lines before it make those of a traceback the page's own
            code = compile("\n" * (block.line - 1) + block.text, file, "exec")
            with contextlib.redirect_stdout(output):
                exec(code, self.names)
        except (Exception, SystemExit) as error:
            own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
            line = own[-1].lineno if own else getattr(error, "lineno", None) or block.line
            text = "".join(traceback.format_exception_only(error)).strip()
            raise PageError(block.page, line, text, output.getvalue()) from error
        self.last, self.printed = block, output.getvalue()
        _tell_time(start, block.place, block.text.splitlines()[0])

    def bash(self, block: Block) -> None:
        self.last, self.printed = block, ""
        try:
            for line in shell_lines.lines(block.text):
                known = {**VARIABLES, **os.environ, **self.variables}
                for command in shell_lines.commands(line.text, known):
                    self.printed += self._command(command, block.page, block.line + line.number, line.text)
        except shell_lines.ShellError as error:
            raise PageError(block.page, block.line, str(error)) from error

    def _command(self, command: shell_lines.Command, page: str, line: int, text: str) -> str:
        """What it prints."""
        if command.words[:1] == ["export"]:
            pairs = [word.partition("=") for word in command.words[1:]]
            command = shell_lines.Command(environment={name: value for name, _, value in pairs})
        if not command.words:
            self.variables |= command.environment
            return ""
        output, errors, start = io.StringIO(), io.StringIO(), time.process_time()
        try:
            with pytest.MonkeyPatch.context() as patch:
                _set_environment(patch, {**self.variables, **command.environment})
                with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                    self.programs.run(command.words)
        except Exception as error:
            reason = str(error) if isinstance(error, Failure) else traceback.format_exc()
            raise PageError(page, line, f"{text}\n{reason}", output.getvalue() + errors.getvalue()) from error
        _tell_time(start, f"{page}:{line}", text)
        if command.output is not None:
            Path(command.output).write_text(output.getvalue(), encoding="utf-8")
            return errors.getvalue()
        return output.getvalue() + errors.getvalue()

    def text(self, block: Block) -> None:
        """Output of the block above, under the same heading; `…` stands for what varies.

        Right behind a Python block it is what that printed. With words in between it is of other data, and
        commands run at small size here: then each line that is shown must be among those printed, but for its
        numbers.
        """
        if self.last is None or self.last.section != block.section:
            return
        if self.last.language == "python" and block.follows:
            if not re.fullmatch(_pattern(block.text.rstrip()), self.printed.rstrip(), re.DOTALL):
                raise PageError(
                    block.page, block.line, "this is not what the block above prints", self.printed
                )
            return
        forms = [_form(line) for line in self.printed.splitlines()]
        for number, line in enumerate(block.text.splitlines()):
            pattern = _pattern(_form(line))
            if line.strip() and not any(re.fullmatch(pattern, form) for form in forms):
                raise PageError(block.page, block.line + number, f"not printed above: {line}", self.printed)

    def yaml(self, block: Block) -> None:
        """A recipe, or a configuration of accelerate; `# name.yaml` in its first line is where it belongs."""
        named = re.match(r"# ([\w./-]+\.ya?ml)\n", block.text)
        path = Path(named[1] if named else f"training/recipes/line_{block.line}.yaml")
        path.write_text(block.text, encoding="utf-8")
        try:
            self.programs.scripts.check_recipe(path)
        except Failure as error:
            raise PageError(block.page, block.line, str(error)) from error

    def json(self, block: Block) -> None:
        self._parse(block, json.loads)

    def toml(self, block: Block) -> None:
        if sys.version_info >= (3, 11):
            import tomllib

            self._parse(block, tomllib.loads)

    def _parse(self, block: Block, parse: Callable[[str], object]) -> None:
        try:
            parse(block.text)
        except ValueError as error:
            raise PageError(block.page, block.line, str(error)) from error

    def bibtex(self, block: Block) -> None:
        if not re.match(r"@\w+\{[\w:-]+,\n", block.text) or block.text.count("{") != block.text.count("}"):
            raise PageError(block.page, block.line, "this is no BibTeX entry with balanced braces")


def _pattern(shown: str) -> str:
    """`…` is anything, also nothing, with the blank before it."""
    return ".*".join(map(re.escape, re.split(f" ?{ELLIPSIS}", shown)))


def _form(line: str) -> str:
    """A line of output without what depends on data and size: numbers, their units, numbered names."""
    words: list[str] = []
    for word in line.split():
        is_number = any(character.isdigit() for character in word)
        if words[-1:] == ["#"] and (is_number or word.rstrip(",;.") in UNITS):
            continue
        words.append("#" if is_number else word)
    return " ".join(words)


def _tell_time(start: float, place: str, what: str) -> None:
    """Seconds of computing, for whoever asks: pytest shows them with -rP, and where a test fails."""
    print(f"{time.process_time() - start:6.2f} s  {place}: {what}")


def _set_environment(patch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    """Also for huggingface_hub, which has read its own when it was imported."""
    from huggingface_hub import constants

    for name, value in variables.items():
        patch.setenv(name, value)
        if name == "HF_HUB_OFFLINE":
            patch.setattr(constants, name, value.lower() in ("1", "true", "yes", "on"))
