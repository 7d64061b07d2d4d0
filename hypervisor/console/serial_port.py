"""A serial port: what the guest wrote to it, and what is sent to the guest."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.console.streams import Stream
from hypervisor.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from hypervisor.devices.uart16550 import Uart16550
    from hypervisor.run.machine import Machine


class SerialPort(Stream):
    """One serial port: what the guest wrote to it, and its input. Input may come from any thread."""

    def __init__(self, name: str, vm: Machine) -> None:
        super().__init__(name, vm)
        self._lock = threading.Lock()
        self._queue: deque[int] = deque()
        self._uart: Uart16550 | None = None
        vm.inputs.append(self._deliver)

    def connect(self, uart: Uart16550) -> None:
        """Let input arrive at this UART."""
        self._uart = uart

    def send(self, data: bytes | str) -> None:
        """Send ``data`` to the guest; it arrives at the line's rate, in the VM's time. May be called from any thread.

        Text goes as UTF-8, with no line ends translated: a shell on Linux wants ``"ls\\n"``, a boot loader perhaps
        ``"ls\\r"``.
        """
        if not isinstance(data, (str, bytes, bytearray)):
            raise ConfigError(f"send({data!r}): give a text, or bytes.")
        self._vm.check_open()
        with self._lock:
            self._queue.extend(data.encode() if isinstance(data, str) else data)
        self._vm.look()

    def feed(self, source: Callable[[], bytes]) -> None:
        """Ask ``source()`` for more input whenever the guest wants it and there is none; see `Uart16550.source`."""
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
        return len(self._queue)

    def _deliver(self) -> None:
        if not self._queue or self._uart is None:
            return
        with self._lock:
            taken = self._uart.receive(bytes(self._queue))
            for _ in range(taken):
                self._queue.popleft()


class SerialPorts(dict[int, SerialPort]):
    """Serial ports by number: 0 is COM1."""

    def __missing__(self, number: int) -> SerialPort:
        there = ", ".join(map(str, sorted(self))) or "none"
        raise DeviceError(f"serial[{number!r}]: the board has no such serial port; it has {there}.")
