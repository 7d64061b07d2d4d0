"""A base class for devices of one's own: name, reset, state and restore follow from one record."""

from __future__ import annotations

from typing import TypeVar

from hypervisor.errors import DeviceError
from hypervisor.state import InRecord, copied, wrong

S = TypeVar("S")


class Device(InRecord[S]):
    """A device all of whose mutable state is one record (`hypervisor.state.record`)::

        @record
        class CounterState:
            count: int = u8()

        class Counter(hv.Device[CounterState]):
            def __init__(self) -> None:
                super().__init__("counter", CounterState())

            def read(self, offset: int, size: int) -> int:
                self.s.count = self.s.count + 1 & 0xFF
                return self.s.count

        vm.attach(Counter, ports=range(0x300, 0x301))

    It may be attached, saved, forked and restored as ours are, and passes `hypervisor.testing.check_device` as long as
    `read` and `write` raise nothing. A device with lines or timers extends `reset` and `restore`.
    """

    def __init__(self, name: str, at_reset: S) -> None:
        """``name`` is what listings and errors call it; ``at_reset`` the state after power-on and reset. Raises
        TypeError for one that is no record, and `DeviceError` for a record with values that its fields do not hold.
        """
        self.name = name
        self._check(at_reset, at_reset)
        self._at_reset = copied(at_reset)
        self._s = at_reset

    @property
    def s(self) -> S:
        """The state as it is now; its fields are read and written in place."""
        return self._s

    def read(self, offset: int, size: int) -> int:
        """What a guest reads: ``size`` bytes at ``offset`` from the start of the device. All ones unless overridden."""
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """The guest writes ``value``. Ignored unless overridden."""

    def reset(self) -> None:
        """The state as it was given to the constructor."""
        self._s = copied(self._at_reset)

    def restore(self, state: S) -> None:
        """Go on from ``state``. Raises `DeviceError` for one that is none of this device's."""
        self._check(self._at_reset, state)
        self._s = copied(state)

    def _check(self, like: S, state: S) -> None:
        if problem := wrong(type(like), state):
            raise DeviceError(f"{self.name}: {problem}.")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self._s!r}>"


__all__ = ["Device"]
