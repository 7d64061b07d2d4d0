"""Threads that are started while a signal's handler raises."""

from __future__ import annotations

import threading

import pytest

from hypervisor.run.threads.starting import start


class RingError(Exception):
    """What a handler raises."""


def test_what_a_handler_raises_arrives_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as the new thread runs, and has removed itself from the table of those that are about to."""
    native = threading._start_new_thread  # type: ignore[attr-defined]
    ran = threading.Event()

    def begin_and_ring(function: object, arguments: object) -> None:
        native(function, arguments)
        assert ran.wait(60)
        raise RingError

    monkeypatch.setattr(threading, "_start_new_thread", begin_and_ring)
    thread = threading.Thread(target=ran.set)
    with pytest.raises(RingError):
        start(thread)
    thread.join()


def test_other_errors_are_not_hidden() -> None:
    thread = threading.Thread(target=int)
    start(thread)
    thread.join()
    with pytest.raises(RuntimeError, match="once"):
        start(thread)
