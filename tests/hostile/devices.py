"""Random operations on each device of the board: ``python -m tests.hostile.devices --operations 1000000 --seed N``.

A machine is built as for a guest, and its devices are reached as a guest's instructions reach them, but nothing runs:
so a million operations take seconds. They are accesses of every size, within a device's place and across its ends;
whole programs (`device_programs`), whose DMA leads to hostile addresses; resets; time that passes; saving and
restoring; and what the host does with a device meanwhile (input, a look at the screen).

What goes wrong is named by seed, device and number of the operation: ``--device NAME --operations NUMBER`` comes to it
again.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from types import FrameType
from typing import Any

import hypervisor as hv
from hypervisor.devices.pci import PciFunction
from hypervisor.run.serving.routing import Routing
from tests.hostile.device_programs import PLACES, PROGRAMS, Steps

MEMORY = 4 << 20
HANG_S = 10
"""Host seconds after which an operation counts as hanging."""
SLOW_S = 0.05
"""Processor seconds of one operation that are worth telling."""
GROWTH = 32 << 10
"""KiB by which the process may grow in the second half of a device's operations."""
TIMERS = 1000
"""Timers that may be pending at once."""
ADVANCE_NS = (1, 100, 1_000, 100_000, 5_000_000)


@dataclass
class Outcome:
    """What the operations on one device came to."""

    device: str
    operations: int = 0
    seconds: float = 0.0
    slow: list[tuple[float, int, str]] = field(default_factory=list)
    problem: str = ""


def _machine(host: hv.Host, device: str = "") -> hv.VM:
    """A VM with everything plugged in; with firmware, if ``device`` is only there with it."""
    disk = bytes(510) + b"\x55\xaa" + bytes(1 << 20)
    drives: dict[str, Any] = {
        "disks": [disk, disk], "floppy": disk[:512].ljust(1474560, b"\0"), "cdrom": bytes(2048 * 64),
    }  # fmt: skip
    vm = host.create_vm(memory=MEMORY, cpus=2, **drives)
    if not device or device in _devices(vm):
        return vm
    vm.close()
    return host.create_vm(memory=MEMORY, cpus=2, firmware=bytes(65536), **drives)


def _devices(vm: hv.VM) -> dict[str, Any]:
    """Every device by its name, and parts of the board by theirs."""
    mapped = {one.device.name: one.device for space in (vm.ports, vm.mmio) for one in space}
    known = {id(device) for device in vm.devices.values()}
    return vm.devices | {name: device for name, device in mapped.items() if id(device) not in known}


class Machine:
    """A VM with everything plugged in, and one of its devices to be operated."""

    def __init__(self, host: hv.Host, device: str, seed: int) -> None:
        self.random = Random(f"{seed} {device}")
        self.vm = vm = _machine(host, device)
        self.device = device
        self._routing = Routing(vm)
        self.target = _devices(vm)[device]
        self._program = PROGRAMS.get(device)
        self._saved: Any = None
        self._places: list[range] = []
        for at in PLACES:
            vm.dma.write(at, self._descriptors())

    def _descriptors(self) -> bytes:
        """What a device that reads its work from memory finds: addresses, sizes and flags, in both orders of bytes."""
        random, words = self.random, []
        for _ in range(8):
            words += [
                random.choice(PLACES),
                random.choice((0, 2, 0x200, 0x80000000, 0x80000200, random.getrandbits(32))),
            ]
        words[0] = random.choice((words[0], 0x02000000, 0x0A000000, 0x10000000, 0x18000000 | random.getrandbits(16)))
        return b"".join(word.to_bytes(4, random.choice(("little", "little", "big"))) for word in words)

    # --- operations ---------------------------------------------------------------------------------------------------

    def operations(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """An endless sequence of operations, each as text and as what does it."""
        random = self.random
        choices = (self._access, self._run_program, self._pass_time, self._memory, self._save, self._restore,
                   self._reset, self._meanwhile, self._reset_all)  # fmt: skip
        weights = (700, 60, 100, 10, 10, 10, 5, 5, 0.2)
        while True:
            for make in random.choices(choices, weights, k=100):
                yield make()
            self._places = []

    def _access(self) -> tuple[str, Callable[[], object]]:
        random = self.random
        size = random.choice((1, 1, 2, 4, 8))
        value = random.choice(
            (None, None, 0, (1 << 8 * size) - 1, 1 << random.randrange(8 * size), random.getrandbits(8 * size))
        )
        places = self._places or self._look_up()
        if isinstance(self.target, PciFunction):
            return self._direct(random.getrandbits(8), size, value)
        if not places:
            return self._run_program()
        place = random.choice(places)
        at = (
            random.randrange(place.start, place.stop)
            if random.random() < 0.95
            else random.choice((place.start - 1, place.stop - 1))
        )
        return self._step(max(at, 0), min(size, 4) if at < 0x10000 else size, value)

    def _look_up(self) -> list[range]:
        vm = self.vm
        self._places = [
            range(m.start, m.end) for space in (vm.ports, vm.mmio) for m in space if m.device is self.target
        ]
        return self._places

    def _direct(self, offset: int, size: int, value: int | None) -> tuple[str, Callable[[], object]]:
        """A function's configuration registers, where the bus would lead."""
        if value is None:
            return f"read {offset:#x} ({size})", lambda: self._fits(self.target.read(offset, size), size)
        return f"write {offset:#x} ({size}) {value:#x}", lambda: self.target.write(offset, size, value)

    def _step(self, at: int, size: int, value: int | None) -> tuple[str, Callable[[], object]]:
        return f"{'in' if value is None else 'out'} {at:#x} ({size}) {value or 0:#x}", lambda: self._perform(
            at, size, value
        )

    def _perform(self, at: int, size: int, value: int | None) -> None:
        routing, ports = self._routing, self.vm.ports
        value = None if value is None else value & (1 << 8 * size) - 1
        if at < 0x10000:
            mapping = ports.find(at)
            if value is None:
                self._fits(routing.port_read(at, size, mapping), size)
                if mapping is not None and mapping.strings == at:
                    mapping.device.read_string(at - mapping.base, size, 100)  # type: ignore[attr-defined]
            else:
                routing.port_write(at, size, value, mapping)
                if mapping is not None and mapping.strings == at and value & 1:
                    mapping.device.write_string(at - mapping.base, size, bytes(100 * size))  # type: ignore[attr-defined]
        elif value is None:
            self._fits(routing.memory_read(at, size), size)
        else:
            routing.memory_write(at, size, value)

    def _fits(self, value: int, size: int) -> None:
        assert type(value) is int and 0 <= value < 1 << 8 * size, f"{value!r} is not a number of {size} bytes"

    def _run_program(self) -> tuple[str, Callable[[], object]]:
        if self._program is None:
            return self._access() if self._places else self._pass_time()
        steps = self._program(self.random)

        def run(steps: Steps = steps) -> None:
            for step in steps:
                self._perform(*step)

        return "program " + " ".join(f"{at:#x}{'' if v is None else f'={v:#x}'}" for at, _, v in steps[:24]), run

    def _pass_time(self) -> tuple[str, Callable[[], object]]:
        ns = self.random.choice(ADVANCE_NS)
        return f"{ns} ns pass", lambda: self.advance(ns)

    def advance(self, ns: int) -> None:
        """Turn the VM's clock, as when its vCPUs sleep; no more timers fire than a busy guest would see."""
        clock, turns = self.vm.clock, self.vm.turns
        target = clock.now_ns + ns
        for _ in range(200):
            deadline = clock.timers.next_ns()
            if deadline is None or deadline > target:
                break
            turns.current.position = turns.time = turns.floor = max(clock.now_ns, deadline)
            clock.timers.run_due(clock.now_ns)
        turns.current.position = turns.time = turns.floor = max(clock.now_ns, target)

    def _memory(self) -> tuple[str, Callable[[], object]]:
        at, what = self.random.choice(PLACES), self._descriptors()
        return f"memory {at:#x}", lambda: self.vm.dma.write(at, what)

    def _save(self) -> tuple[str, Callable[[], object]]:
        def save() -> None:
            self._saved = self.target.state()

        return "save", save

    def _restore(self) -> tuple[str, Callable[[], object]]:
        def restore() -> None:
            if self._saved is not None:
                self.target.restore(self._saved)
                now = self.target.state()  # which time may have changed
                self.target.restore(now)
                assert self.target.state() == now, "the state is not the one that was restored"

        return "restore", restore

    def _reset(self) -> tuple[str, Callable[[], object]]:
        return "reset", self.target.reset

    def _reset_all(self) -> tuple[str, Callable[[], object]]:
        return "reset of the machine", self.vm.reset

    def _meanwhile(self) -> tuple[str, Callable[[], object]]:
        """What the host does with a device."""
        vm, random = self.vm, self.random
        if self.device.startswith("uart"):
            data = random.randbytes(random.choice((1, 40)))
            return "serial input", lambda: self.target.receive(data)
        if self.device == "i8042":
            return "a key", lambda: (vm.keyboard.down("a"), vm.keyboard.up("a"), vm.mouse.move(300, -300, 1))
        if self.device.startswith("vga") and random.random() < 0.02:
            return "a look at the screen", lambda: (vm.screen.text, vm.screen.mode, vm.screen.pixels, vm.screen.cursor)
        return self._pass_time()


@contextmanager
def _watched() -> Iterator[None]:
    """An operation that hangs raises."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the operation took more than {HANG_S} s")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def names(host: hv.Host) -> list[str]:
    """Every device of the board."""
    with _machine(host) as vm:
        found = list(_devices(vm))
    with _machine(host, "fw_cfg") as vm:
        return list(dict.fromkeys([*found, *_devices(vm)]))


def operate(host: hv.Host, device: str, operations: int, seed: int) -> Outcome:
    """So many operations on one device of a new machine."""
    outcome, last = Outcome(device), deque[str](maxlen=8)
    started, half = time.perf_counter(), 0
    machine = Machine(host, device, seed)
    with machine.vm, _watched():
        timers = machine.vm.clock.timers
        try:
            for number, (text, do) in enumerate(machine.operations()):
                if number == operations:
                    break
                last.append(text)
                outcome.operations = number + 1
                if number & 0xFF == 0:
                    signal.setitimer(signal.ITIMER_REAL, HANG_S)
                    assert len(timers._heap) < TIMERS, f"{len(timers._heap)} timers are pending"
                    if number <= operations // 2:
                        half = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                before = time.thread_time()
                do()
                took = time.thread_time() - before
                if took > SLOW_S:
                    outcome.slow = sorted([*outcome.slow, (took, number, text)], reverse=True)[:3]
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - half
            assert grown < GROWTH, f"the process grew by {grown} KiB"
        except Exception:
            outcome.problem = (
                f"{device}, operation {outcome.operations - 1} (seed {seed}): {last[-1] if last else ''}\n"
                f"{traceback.format_exc()}before it: {list(last)[:-1]}\n"
                f"Again: python -m tests.hostile.devices --seed {seed} --device {device} "
                f"--operations {outcome.operations}"
            )
    outcome.seconds = time.perf_counter() - started
    return outcome


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Operate each device at random and look for what harms the host.")
    parser.add_argument("--operations", type=int, default=1_000_000, help="for each device")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", action="append", help="this one alone; may be repeated")
    options = parser.parse_args()
    problems = 0
    with hv.Host(memory="16M", cpus=1) as host:
        for device in options.device or names(host):
            outcome = operate(host, device, options.operations, options.seed)
            rate = outcome.operations / outcome.seconds
            print(
                f"{device:12} {outcome.operations:8} operations, {rate:8.0f} per second {outcome.slow or ''}",
                flush=True,
            )
            if outcome.problem:
                problems += 1
                print("-" * 100, outcome.problem, "-" * 100, sep="\n", flush=True)
    print(f"{problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
