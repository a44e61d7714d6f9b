"""Work in a thread of its own: its items, its errors, its end."""

from __future__ import annotations

import threading

import pytest

from star_hf.demo.background import Stopped, in_background
from star_hf.demo.stopping import StopCounter

SECONDS = 10  # that a test waits for a thread before it fails


def test_items_come_in_order_from_another_thread():
    def work(emit):
        for number in range(3):
            emit((number, threading.current_thread()))

    numbers, threads = zip(*in_background(work), strict=True)
    assert numbers == (0, 1, 2)
    assert set(threads).isdisjoint({threading.current_thread()})


def test_an_error_comes_after_what_was_emitted():
    def work(emit):
        emit(1)
        raise ValueError("no more")

    items = in_background(work)
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_nothing_starts_before_the_first_item_is_asked_for():
    started = threading.Event()
    in_background(lambda emit: started.set()).close()
    assert not started.is_set()


def test_closing_stops_the_work_at_its_next_item():
    go_on, stopped, emitted = threading.Event(), threading.Event(), []

    def work(emit):
        try:
            for number in range(100):
                emit(number)
                emitted.append(number)
                go_on.wait(SECONDS)
        except Stopped:
            stopped.set()
            raise

    items = in_background(work)
    next(items)
    items.close()
    go_on.set()
    assert stopped.wait(SECONDS)
    assert emitted == [0]


def test_stop_reaches_the_visitors_earlier_requests_and_no_others():
    stops = StopCounter()
    earlier = 0
    assert not stops.stopped("ann", earlier)
    later = stops.press("ann")
    assert stops.stopped("ann", earlier)
    assert not stops.stopped("ann", later) and not stops.stopped("bob", earlier)
    stops.press("ann")
    assert stops.stopped("ann", later)
