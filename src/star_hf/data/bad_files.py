"""What a long run does about files that cannot be read: count, name once, skip, stop when there are many."""

from collections.abc import Callable, Iterable
from typing import NamedTuple


class BadFile(NamedTuple):
    """A file's name and why it cannot be read."""

    name: str
    reason: str

    @classmethod
    def from_error(cls, name: str, error: Exception) -> "BadFile":
        """Audio errors begin with the file's name, which is not to be said twice."""
        return cls(name, str(error).removeprefix(f"{name}: "))


class TooManyBadFiles(RuntimeError):
    """More than the allowed share of a dataset's files cannot be read."""


class BadFiles:
    """The unreadable files of one run.

    `total` is the number of files in the dataset; where it is unknown (streaming), the share is taken of the
    files seen so far, once there are at least `judged_after` of them. Each new file is reported once through
    `report`; above `max_share` of the files, `TooManyBadFiles` lists them all.
    """

    def __init__(
        self,
        total: int | None,
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
        self.reasons: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, failures: Iterable[BadFile | tuple[str, str]], seen: int = 0) -> None:
        """Record failures among `seen` files just read."""
        self.seen += seen
        for name, reason in failures:
            if name not in self.reasons:
                self.reasons[name] = reason
                self.report(f"skipping {name}: {reason}")
        if self.total is None and self.seen < self.judged_after:
            return
        files = self.total if self.total is not None else self.seen
        if len(self) > self.max_share * files:
            raise TooManyBadFiles(
                f"{len(self)} of {files} files cannot be read, more than the {self.max_share:.1%} allowed:\n"
                + "\n".join(f"  {name}: {reason}" for name, reason in self.reasons.items())
            )
