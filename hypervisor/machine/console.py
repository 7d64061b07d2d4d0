"""The VM's console: what the guest writes to its first serial port, and what is typed to it."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from hypervisor.backends.console import Console

if TYPE_CHECKING:
    from hypervisor.core import VM
    from hypervisor.devices.uart16550 import Uart16550


class GuestConsole(Console):
    """A console with an input side. Input may come from any thread; it enters the guest on the VM's own."""

    def __init__(self, vm: VM) -> None:
        super().__init__()
        self._vm = vm
        self._lock = threading.Lock()
        self._queue: deque[int] = deque()
        self._uart: Uart16550 | None = None
        self.keys: object | None = None
        vm.inputs.append(self._deliver)

    def connect(self, uart: Uart16550) -> None:
        """Let input arrive at this serial port."""
        self._uart = uart

    def send(self, data: bytes | str) -> None:
        """Queue input. May be called from any thread."""
        with self._lock:
            self._queue.extend(data.encode() if isinstance(data, str) else data)
        self._vm.look()

    @property
    def pending(self) -> int:
        """Bytes of input that the guest has not taken yet."""
        return len(self._queue)

    def open_input(self) -> None:
        """Say that input may come at any time: a guest that waits is not idle then."""
        self._vm.input_open = True

    def close_input(self) -> None:
        """Say that no more input will come."""
        self._vm.input_open = False
        self._vm.look()

    def _deliver(self) -> None:
        if not self._queue:
            return
        with self._lock:
            data = bytes(self._queue)
        taken = len(data)
        if self.keys is not None:
            self.keys.type(data)  # type: ignore[attr-defined]  # a key queue of the BIOS
        if self._uart is not None:
            taken = self._uart.receive(data)
        with self._lock:
            for _ in range(taken):
                self._queue.popleft()
