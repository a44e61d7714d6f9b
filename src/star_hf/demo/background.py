"""Work in a thread of its own that tells how far it is, and that ends when nobody listens any more."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

Emit = Callable[[Any], None]


class Stopped(Exception):
    """Raised inside the work when its listener has gone."""


def in_background(work: Callable[[Emit], None]) -> Iterator[Any]:
    """Yield what `work(emit)` emits, and raise what it raises.

    The work starts with the first item that is asked for. After the iterator is closed, the next `emit`
    raises `Stopped` inside the work, which must let it pass.
    """
    events: queue.SimpleQueue = queue.SimpleQueue()
    closed = threading.Event()

    def emit(event: Any) -> None:
        if closed.is_set():
            raise Stopped
        events.put((event, None))

    def run() -> None:
        try:
            work(emit)
        except Stopped:
            return
        except BaseException as error:
            events.put((None, error))
        else:
            events.put(None)

    threading.Thread(target=run, daemon=True, name="star-hf demo").start()
    try:
        while (item := events.get()) is not None:
            event, error = item
            if error is not None:
                raise error
            yield event
    finally:
        closed.set()
