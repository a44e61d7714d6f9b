"""What a long run does about files that cannot be read: count, name once, skip, stop when there are many."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple


class BadFile(NamedTuple):
    """A file's name, why it cannot be read, and the dataset it is from where there are several."""

    name: str
    reason: str
    source: str = ""

    @classmethod
    def from_error(cls, name: str, error: Exception, source: str = "") -> "BadFile":
        """Audio errors begin with the file's name, which is not to be said twice."""
        return cls(name, str(error).removeprefix(f"{name}: "), source)


class TooManyBadFiles(RuntimeError):
    """More than the allowed share of a dataset's files cannot be read."""


class BadFiles:
    """The unreadable files of one run.

    `total` is the number of files in the dataset, or a dict of them by dataset: each is judged by itself, so
    that a small one cannot fail unnoticed beside a large one. Where it is unknown (streaming), the share is
    taken of the files seen so far, once there are at least `judged_after` of them. Each new file is reported
    once through `report`; above `max_share` of the files, `TooManyBadFiles` lists them.
    """

    def __init__(
        self,
        total: int | Mapping[str, int] | None,
        max_share: float = 0.05,
        report: Callable[[str], None] = print,
        judged_after: int = 100,
    ) -> None:
        if not 0.0 <= max_share <= 1.0:
            raise ValueError(f"max_share of bad files must be between 0 and 1, got {max_share}")
        self.total = total
        self.max_share = max_share
        self.report = report
        self.judged_after = judged_after
        self.seen = 0
        self.reasons: dict[tuple[str, str], str] = {}  # by dataset and name

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, failures: Iterable[BadFile | tuple[str, str]], seen: int = 0) -> None:
        """Record failures among `seen` files just read."""
        self.seen += seen
        for name, reason, source in (BadFile(*failure) for failure in failures):
            if (source, name) not in self.reasons:
                self.reasons[source, name] = reason
                self.report(f"skipping {_in(source)}{name}: {reason}")
        self._judge()

    def _judge(self) -> None:
        if isinstance(self.total, Mapping):
            counts = Counter(source for source, _ in self.reasons)
            for source, total in self.total.items():
                self._compare(counts[source], total, source)
        elif self.total is not None:
            self._compare(len(self), self.total)
        elif self.seen >= self.judged_after:
            self._compare(len(self), self.seen)

    def _compare(self, count: int, files: int, source: str | None = None) -> None:
        if count <= self.max_share * files:
            return
        listing = [
            f"  {_in(own)}{name}: {reason}"
            for (own, name), reason in self.reasons.items()
            if source in (None, own)
        ]
        place = f" of {source!r}" if source else ""
        raise TooManyBadFiles(
            f"{count} of {files} files{place} cannot be read, more than the {self.max_share:.1%} allowed:\n"
            + "\n".join(listing)
        )


def _in(source: str) -> str:
    return f"{source}: " if source else ""
