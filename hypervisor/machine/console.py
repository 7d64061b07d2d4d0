"""A VM's streams: serial ports, debug console, BIOS teletype; and the console, which shows what a user should see."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypervisor.core.streams import Stream
from hypervisor.errors import ConfigError

if TYPE_CHECKING:
    from hypervisor.core import VM
    from hypervisor.devices.uart16550 import Uart16550


class SerialPort(Stream):
    """One serial port: what the guest wrote to it, and its input. Input may come from any thread."""

    def __init__(self, name: str, vm: VM) -> None:
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


class GuestConsole(Stream):
    """What the user is shown: the first serial port, the debug console and the BIOS teletype, as they come.

    What is written here directly is a stream of its own to `hypervisor.VM.run`'s ``until``.
    """

    def __init__(self, vm: VM) -> None:
        super().__init__("the console", vm)
        self._direct: Stream | None = None
        self.keys: Any = None
        """The BIOS's queue of typed keys, if there is a BIOS."""

    def shows(self, stream: Stream) -> None:
        """Show what comes on ``stream`` from now on."""
        stream.listen(super().write)

    def write(self, data: bytes) -> None:
        """Show ``data``, which is on no other stream."""
        if self._direct is None:
            self._direct = Stream("the console", self._vm)
            self._vm.searched.append(self._direct)
        self._direct.write(data)
        super().write(data)

    def send(self, data: bytes | str) -> None:
        """Type: ``data`` goes to the first serial port and to the BIOS's keyboard. May be called from any thread."""
        self._vm.check_open()
        if self.keys is not None:
            self.keys.type(data)
        if 0 in self._vm.serial:
            self._vm.serial[0].send(data)

    def feed(self, read: Callable[[], bytes]) -> None:
        """Read input when the guest wants it, at its serial port or through INT 16h; both are given what ``read()``
        returns. It may wait for its writer: the VM's time stands still meanwhile, so when each byte arrives depends on
        the guest alone.
        """
        self._vm.check_open()

        def for_serial() -> bytes:
            data = read()
            if self.keys is not None:
                self.keys.type(data)
            return data

        def for_keys() -> bytes:
            data = read()
            if 0 in self._vm.serial:
                self._vm.serial[0].take(data)
            return data

        if 0 in self._vm.serial:
            self._vm.serial[0].feed(for_serial)
        if self.keys is not None:
            self.keys.source = for_keys

    @property
    def pending(self) -> int:
        """Bytes of input that the guest has not taken yet."""
        return self._vm.serial[0].pending if 0 in self._vm.serial else 0

    def open_input(self) -> None:
        """Say that input may come at any time: a guest that waits is not idle then."""
        self._vm.input_open = True

    def close_input(self) -> None:
        """Say that no more input will come."""
        self._vm.input_open = False
        self._vm.look()


def console(vm: VM) -> GuestConsole:
    """The VM's console, made when it is first asked for."""
    if vm.console is None:
        vm.console = GuestConsole(vm)
    if not isinstance(vm.console, GuestConsole):
        raise ConfigError(f"vm.console is {vm.console!r}; the board's devices need a GuestConsole.")
    return vm.console


def stream(vm: VM, name: str, *, shown: bool) -> Stream:
    """A new stream of ``vm``, for ``until=`` to look at; on the console, too, if it is ``shown``."""
    return _added(vm, Stream(name, vm), shown)


def serial(vm: VM, number: int, *, shown: bool) -> SerialPort:
    """A new serial port ``vm.serial[number]``."""
    port = SerialPort(f"serial port {number}", vm)
    vm.serial[number] = port
    _added(vm, port, shown)
    return port


def _added(vm: VM, made: Stream, shown: bool) -> Stream:
    vm.searched.append(made)
    if shown:
        console(vm).shows(made)
    return made
