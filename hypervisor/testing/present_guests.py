"""The guests that a test's failure is told of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest

if TYPE_CHECKING:
    from hypervisor import VM


class Guest(NamedTuple):
    """What messages call a guest, and the guest."""

    name: str
    vm: VM


class GuestWatcher(Protocol):
    """Hears of each guest."""

    def begins(self, guest: Guest) -> None:
        """It is there, and has not run yet (a fork: since it was forked)."""

    def ends(self, guest: Guest) -> None:
        """It is about to be closed."""


class PresentGuests:
    """Guests that are there when a test fails: those that are open, and those that the failure came through.

    A ``with`` block closes its guest before anybody hears of a failure in it. So one that an exception leaves is kept
    open until the test's report has been made, or until another exception leaves another one: of a test that is tried
    many times, as Hypothesis does, the last failure is the one that is told.
    """

    def __init__(self, watchers: Sequence[GuestWatcher] = ()) -> None:
        self._watchers = watchers
        self._open: list[Guest] = []
        self._failed: list[Guest] = []
        self._failure: BaseException | None = None

    def __iter__(self) -> Iterator[Guest]:
        yield from self._failed
        yield from self._open

    def add(self, guest: Guest) -> None:
        """It is open."""
        self._open.append(guest)
        for watcher in self._watchers:
            watcher.begins(guest)

    @contextmanager
    def present(self, guest: Guest) -> Iterator[VM]:
        """The block has a guest, which is closed at its end, or kept if it fails."""
        self.add(guest)
        try:
            yield guest.vm
        except (Exception, pytest.fail.Exception) as error:
            self._keep(guest, error)
            raise
        finally:
            self._open.remove(guest)
            if guest not in self._failed:
                self._close(guest)

    def _keep(self, guest: Guest, error: BaseException) -> None:
        if error is not self._failure:
            self.forget_failed()
        self._failure = error
        self._failed.append(guest)

    def forget_failed(self) -> None:
        """Close the guests that were kept."""
        self._failure = None
        self.close([*self._failed])

    def close(self, guests: list[Guest] | None = None) -> None:
        """Close these guests, or every one, last one first; then raise the first error, if any."""
        errors: list[Exception] = []
        for guest in reversed([*self] if guests is None else guests):
            for held in (self._open, self._failed):
                if guest in held:
                    held.remove(guest)
            try:
                self._close(guest)
            except Exception as error:  # the other guests must be closed as well
                errors.append(error)
        if errors:
            raise errors[0]

    def _close(self, guest: Guest) -> None:
        if guest.vm.closed:
            return
        try:
            for watcher in self._watchers:
                watcher.ends(guest)
        finally:
            guest.vm.close()


__all__ = ["Guest", "GuestWatcher", "PresentGuests"]
