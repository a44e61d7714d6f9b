"""Stop: which requests are to end, those that wait for their turn included."""

from __future__ import annotations

from collections import Counter


class StopCounter:
    """How often each visitor has pressed Stop.

    A request carries the count of the moment when it was sent: it is to end once there are more.
    """

    def __init__(self) -> None:
        self._presses: Counter[str] = Counter()

    def press(self, visitor: str) -> int:
        """Count one more, and return how many there are."""
        self._presses[visitor] += 1
        return self._presses[visitor]

    def stopped(self, visitor: str, sent_after: int) -> bool:
        """Whether the visitor has pressed Stop after sending a request that carries `sent_after`."""
        return self._presses.get(visitor, 0) > sent_after
