"""A VM without a guest, for everything that the command line does around one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


@dataclass
class FakeResult:
    """What `FakeVm.run` returns."""

    value: str = "powered-off"
    message: str = ""
    status: int | None = None
    crash: str | None = None
    hint: str = ""
    wall_s: float = 0.25
    virtual_s: float = 1.5
    exits: Mapping[str, int] = field(default_factory=lambda: {"hlt": 2, "cpuid": 1})
    host_events: Mapping[str, int] = field(default_factory=lambda: {"tlb-fill": 7})

    @property
    def reason(self) -> Any:
        return SimpleNamespace(value=self.value)


class FakeConsole:
    def __init__(self) -> None:
        self.sinks: list[Callable[[bytes], object]] = []
        self.received = bytearray()
        self.input_open = self.live = False
        self.pending = 0
        self.changed = threading.Condition()

    def listen(self, listener: Callable[[bytes], object]) -> None:
        self.sinks.append(listener)

    def feed(self, read: Callable[[], bytes]) -> None:
        """A guest that wants its input at once; to the end, or until it comes by itself."""
        self.input_open = True

        def pull() -> None:
            while data := read():
                self.send(data)
            if not self.live:
                self.close_input()

        threading.Thread(target=pull, daemon=True).start()

    def open_input(self) -> None:
        self.live = True
        self.input_open = True

    def close_input(self) -> None:
        with self.changed:
            self.input_open = False
            self.changed.notify_all()

    def send(self, data: bytes) -> None:
        with self.changed:
            self.received += data
            self.changed.notify_all()

    def write(self, data: bytes) -> None:
        for sink in self.sinks:
            sink(data)


class FakeVm:
    """Runs ``script(self)``, which returns the result; `stopped` is set by `request_stop`."""

    def __init__(self, script: Callable[[FakeVm], FakeResult]) -> None:
        self.console = FakeConsole()
        self.config = SimpleNamespace(clock="virtual")
        self.vcpu = SimpleNamespace(rip=0x7C3E)
        self.screen: Any = None
        self.symbols = SimpleNamespace(lookup=lambda address: ("idle", 2))
        self.host_memory_bytes = 4096
        self.began = time.monotonic()
        self.stopped = threading.Event()
        self.stop_text = ""
        self.closed = False
        self.busy_in = ""
        self.run_arguments: dict[str, Any] = {}
        self.script = script

    def run(self, *, until: object, timeout: float | None, virtual_timeout: float | None) -> FakeResult:
        self.run_arguments = {"timeout": timeout, "virtual_timeout": virtual_timeout}
        return self.script(self)

    def request_stop(self, text: str, urgent: bool = False) -> None:
        self.stop_text = self.stop_text or text
        self.stopped.set()

    def close(self) -> None:
        self.closed = True


def ends(**fields: Any) -> Callable[[FakeVm], FakeResult]:
    """A script that ends at once."""
    return lambda vm: FakeResult(**fields)


def waits(vm: FakeVm) -> FakeResult:
    """A script that says it is ready and runs until it is stopped."""
    vm.console.write(b"ready\r\n")
    if not vm.stopped.wait(20):
        return FakeResult("timeout")
    return FakeResult("stopped", vm.stop_text)


def echoes(vm: FakeVm) -> FakeResult:
    """A script that echoes its input in capitals until the input is closed or the run is stopped."""
    vm.console.write(b"ready\r\n")
    done = 0
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with vm.console.changed:
            if len(vm.console.received) == done and vm.console.input_open:
                vm.console.changed.wait(0.02)
            data, done = bytes(vm.console.received[done:]), len(vm.console.received)
            still_open = vm.console.input_open
        vm.console.write(data.upper())
        if vm.stopped.is_set():
            return FakeResult("stopped", vm.stop_text)
        if not still_open and not data:
            return FakeResult("powered-off")
    return FakeResult("timeout")


def takes_nothing(vm: FakeVm) -> FakeResult:
    """A script whose guest has more input than it wants."""
    vm.console.pending = 1 << 20
    result = waits(vm)
    result.message += f" having been given {len(vm.console.received)} bytes"
    return result


def floods(vm: FakeVm) -> FakeResult:
    """A script that writes for as long as it may."""
    deadline = time.monotonic() + 20
    while not vm.stopped.is_set() and time.monotonic() < deadline:
        vm.console.write(b"x" * 4096)
    return FakeResult("stopped", vm.stop_text)


def deaf(vm: FakeVm) -> FakeResult:
    """A script that does not let go when asked."""
    vm.console.write(b"ready\r\n")
    time.sleep(20)
    return FakeResult("timeout")


def warns(vm: FakeVm) -> FakeResult:
    """A script whose end is told on stderr."""
    vm.console.write(b"ready")
    return FakeResult("reset")


SCRIPTS = {
    "waits": waits,
    "echoes": echoes,
    "floods": floods,
    "deaf": deaf,
    "takes_nothing": takes_nothing,
    "warns": warns,
    "ends": ends(),
}
