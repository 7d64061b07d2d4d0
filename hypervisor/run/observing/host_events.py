"""What becomes of a host's VMs, told as it happens to whoever wants to know.

Runs tell on their own threads, and wait for nobody: each reader has a queue with a bound, which loses what is oldest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from queue import Empty, SimpleQueue

from hypervisor.errors import ConfigError
from hypervisor.outcome.result import Reason

LIMIT = 4096
"""Events that a reader may have waiting unless it says otherwise."""


class What(Enum):
    """What has become of a VM: a closed set."""

    STARTED = "started"
    """A run has begun."""
    PAUSED = "paused"
    """It stands still between two instructions, for `VM.pause` or for a debugger."""
    RESUMED = "resumed"
    """It goes on behind that."""
    STOPPED = "stopped"
    """It is over, in any way but the next one; the reason says in which."""
    CRASHED = "crashed"
    """It is over, and the guest has brought its processor down."""
    ASKED = "asked"
    """Its host has little memory left and asks its balloon for pages, or has enough again; the message says which."""


@dataclass(frozen=True)
class HostEvent:
    """Something that has become of a VM. Behind ``started`` there is always one of ``stopped`` and ``crashed``."""

    what: What
    vm: str
    """The VM's name."""
    virtual_s: float
    """When: of the VM's clock, in seconds."""
    reason: Reason | None = None
    """Why its run is over."""
    message: str = ""
    """The same as a sentence; of a pause, whose it is."""
    time_s: float = field(default_factory=time.time)
    """When, of the host's calendar: seconds since 1970."""


class HostEvents:
    """A reader of a host's events, from the moment on when it was made: iterate over it, or ask `next`.

    Use it as a context manager, or `close` it. An iteration is over when the host, or the reader, is closed.
    """

    def __init__(self, telling: Telling, limit: int) -> None:
        if not isinstance(limit, int) or limit < 1:
            raise ConfigError(f"limit={limit!r}: a reader of events keeps one at least.")
        self.lost = 0
        """How many events have been lost, because so many waited."""
        self._telling, self._limit = telling, limit
        self._waiting: SimpleQueue[HostEvent | None] = SimpleQueue()
        self._closed = False

    def next(self, timeout: float | None = None) -> HostEvent | None:
        """The next event, waited for at most so many host seconds; None if there is none, or will be none."""
        if self._closed and self._waiting.empty():
            return None
        try:
            return self._waiting.get(timeout=timeout)
        except Empty:
            return None

    def __iter__(self) -> Iterator[HostEvent]:
        while (event := self.next()) is not None:
            yield event

    def put(self, event: HostEvent) -> None:
        """An event has come; on any thread, and without a lock of ours."""
        self._waiting.put(event)
        while self._waiting.qsize() > self._limit:
            try:
                self._waiting.get_nowait()
            except Empty:  # the reader was faster
                return
            self.lost += 1

    def close(self) -> None:
        """Hear of nothing more; what waits can still be read. Closing twice is harmless."""
        self._telling.forget(self)
        self._closed = True
        self._waiting.put(None)  # wakes who waits

    def __enter__(self) -> HostEvents:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Telling:
    """Those who want to hear of a host's events."""

    def __init__(self) -> None:
        self._readers: tuple[HostEvents, ...] = ()

    def reader(self, limit: int = LIMIT) -> HostEvents:
        """One more."""
        made = HostEvents(self, limit)
        self._readers = (*self._readers, made)
        return made

    def forget(self, reader: HostEvents) -> None:
        """One less."""
        self._readers = tuple(one for one in self._readers if one is not reader)

    def tell(self, what: What, vm: str, now_ns: int, reason: Reason | None = None, message: str = "") -> None:
        """Something has become of a VM at this time of its clock."""
        readers = self._readers
        if readers:
            event = HostEvent(what, vm, now_ns / 1e9, reason, message)
            for one in readers:
                one.put(event)

    def close(self) -> None:
        """Nothing more comes."""
        for one in self._readers:
            one.close()


__all__ = ["HostEvent", "HostEvents", "Telling", "What"]
