"""What a user is shown of a guest, and where what is typed goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from hypervisor.console.expecting import Source
from hypervisor.console.serial_port import SerialPorts
from hypervisor.console.streams import Stream

if TYPE_CHECKING:
    from hypervisor.run.machine import Machine


KEYS = "typed ahead"
"""What the BIOS's queue of typed keys is called in the machine's inbox."""


class TypedKeys(Protocol):
    """The BIOS's queue of typed keys."""

    source: Callable[[], bytes]
    """Asked for more when the guest wants a key and none waits."""

    def type(self, text: str | bytes) -> None:
        """Put keys at its end."""
        ...


class GuestConsole(Stream):
    """What the user is shown: the first serial port, the debug console and the BIOS teletype, as they come.

    What is written here directly is a stream of its own to `hypervisor.VM.run`'s ``until``.
    """

    def __init__(self, vm: Machine, serial: SerialPorts, searched: list[Source]) -> None:
        """``serial`` are the VM's serial ports, ``searched`` where it looks for texts."""
        super().__init__("the console", vm)
        self._serial = serial
        self.direct = Stream("the console", vm)
        """What is written here directly."""
        searched.append(self.direct)
        self.keys: TypedKeys | None = None
        """The BIOS's queue of typed keys, if there is a BIOS."""

    def shows(self, stream: Stream) -> None:
        """Show what comes on ``stream`` from now on."""
        stream.listen(super().write)

    def write(self, data: bytes) -> None:
        """Show ``data``, which is on no other stream."""
        self.direct.write(data)
        super().write(data)

    def send(self, data: bytes | str) -> None:
        """Type: ``data`` goes to the first serial port and to the BIOS's keyboard. May be called from any thread."""
        self._vm.check_open()
        if self.keys is not None:
            self._vm.inbox.put(KEYS, data.encode("latin-1", "ignore") if isinstance(data, str) else bytes(data))
        if 0 in self._serial:
            self._serial[0].send(data)

    def feed(self, read: Callable[[], bytes]) -> None:
        """Read input when the guest wants it, at its serial port or through INT 16h; both are given what ``read()``
        returns. It may wait for its writer: the VM's time stands still meanwhile, so when each byte arrives depends on
        the guest alone. What it answers is part of the recording of the machine's inbox.
        """
        self._vm.check_open()
        read = self._vm.inbox.asking("the console asks", read)

        def for_serial() -> bytes:
            data = read()
            if self.keys is not None:
                self.keys.type(data)
            return data

        def for_keys() -> bytes:
            data = read()
            if 0 in self._serial:
                self._serial[0].take(data)
            return data

        if 0 in self._serial:
            self._serial[0].ask(for_serial)
        if self.keys is not None:
            self.keys.source = for_keys

    @property
    def pending(self) -> int:
        """Bytes of input that the guest has not taken yet."""
        return self._serial[0].pending if 0 in self._serial else 0

    def open_input(self) -> None:
        """Say that input may come at any time: a guest that waits is not idle then."""
        self._vm.input_open = True

    def close_input(self) -> None:
        """Say that no more input will come."""
        self._vm.input_open = False
        self._vm.look()
