"""What a command says: results on stdout, progress on stderr, JSON where a script reads it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Reporter:
    """Progress bars on a terminal, plain lines elsewhere; `as_json` keeps stdout for one JSON document."""

    def __init__(self, as_json: bool):
        self.as_json = as_json
        self._stderr = Console(stderr=True, highlight=False, soft_wrap=True)

    def result(self, line: str) -> None:
        """A line of the result, for people."""
        if not self.as_json:
            print(line, flush=True)

    def note(self, line: str) -> None:
        """A line about the work."""
        self._stderr.print(line, markup=False)

    def warn(self, line: str) -> None:
        self.note(f"warning: {line}")

    def document(self, content: dict[str, Any]) -> None:
        """The result as JSON, for scripts."""
        if self.as_json:
            json.dump(content, sys.stdout, indent=2, ensure_ascii=False)
            print(flush=True)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Any]:
        """Yield a function that is called after each of `total` steps."""
        if not self._stderr.is_terminal:
            self.note(f"{description} ({total} steps)" if total > 1 else description)
            yield lambda: None
            return
        columns = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()]
        with Progress(*columns, TimeRemainingColumn(), console=self._stderr, transient=True) as bar:
            task = bar.add_task(description, total=total)
            yield lambda: bar.advance(task)


@dataclass
class Stopwatch:
    """Seconds spent in each named phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def rounded(self) -> dict[str, float]:
        return {name: round(seconds, 3) for name, seconds in self.seconds.items()}

    def __str__(self) -> str:
        return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.seconds.items())
