"""A serial port: what the guest wrote to it, and what is sent to the guest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.console.streams import Stream
from hypervisor.errors import ConfigError, DeviceError
from hypervisor.state import blob, record

if TYPE_CHECKING:
    from hypervisor.devices.uart16550 import Uart16550
    from hypervisor.run.machine import Machine


RECEIVED = 1 << 16
"""Bytes that a port's receiver holds (`hypervisor.devices.uart16550`)."""
MAX_QUEUE = 1 << 26
"""Bytes of input that a state may have waiting."""


@record
class QueueState:
    """What was sent to the guest and waits for its port."""

    waiting: bytes = blob(MAX_QUEUE)


class InputQueue:
    """Bytes in the machine that a port's receiver has no room for. On the machine's own thread."""

    def __init__(self) -> None:
        self.waiting = bytearray()

    def take(self) -> bytes:
        """All of them, as far as a receiver takes them at once."""
        taken = bytes(self.waiting[:RECEIVED])
        del self.waiting[:RECEIVED]
        return taken

    def state(self) -> QueueState:
        """All of them."""
        return QueueState(bytes(self.waiting))

    def restore(self, state: QueueState) -> None:
        """These wait, and no others."""
        self.waiting[:] = state.waiting


class SerialPort(Stream):
    """One serial port: what the guest wrote to it, and its input. Input may come from any thread."""

    def __init__(self, name: str, vm: Machine) -> None:
        super().__init__(name, vm)
        self.queue = InputQueue()
        """What was sent to the guest and has not arrived yet."""
        self._uart: Uart16550 | None = None
        vm.inbox.connect(name, self._came)

    def connect(self, uart: Uart16550) -> None:
        """Let input arrive at this UART."""
        self._uart = uart
        uart.queued = self.queue.take

    def send(self, data: bytes | str) -> None:
        """Send ``data`` to the guest; it arrives at the line's rate, in the VM's time. May be called from any thread.

        Text goes as UTF-8, with no line ends translated: a shell on Linux wants ``"ls\\n"``, a boot loader perhaps
        ``"ls\\r"``.
        """
        if not isinstance(data, (str, bytes, bytearray)):
            raise ConfigError(f"send({data!r}): give a text, or bytes.")
        self._vm.check_open()
        self._vm.inbox.put(self.name, data.encode() if isinstance(data, str) else bytes(data))

    def feed(self, source: Callable[[], bytes]) -> None:
        """Ask ``source()`` for more input whenever the guest wants it and there is none; see `Uart16550.source`.

        What it answers is part of the recording of the machine's inbox, and a machine that plays one asks there first.
        """
        self.ask(self._vm.inbox.asking(f"{self.name} asks", source))

    def ask(self, source: Callable[[], bytes]) -> None:
        """As `feed`, for who notes the answers."""
        self._vm.check_open()
        if self._uart is not None:
            self._uart.source = source

    def take(self, data: bytes) -> None:
        """Let ``data`` arrive from now on; for the VM's own thread."""
        if self._uart is not None:
            self._uart.receive(data)

    @property
    def pending(self) -> int:
        """Bytes of input that the port's receiver has not taken yet."""
        return len(self.queue.waiting) + sum(map(len, self._vm.inbox.waiting(self.name)))

    def _came(self, content: bytes) -> None:
        """What was sent is in the machine now; what the receiver has no room for waits until it asks."""
        waiting = self.queue.waiting
        waiting += content
        if self._uart is not None:
            del waiting[: self._uart.receive(bytes(waiting))]


class SerialPorts(dict[int, SerialPort]):
    """Serial ports by number: 0 is COM1."""

    def __missing__(self, number: int) -> SerialPort:
        there = ", ".join(map(str, sorted(self))) or "none"
        raise DeviceError(f"serial[{number!r}]: the board has no such serial port; it has {there}.")
