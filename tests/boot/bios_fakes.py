"""A vCPU and a VM with just what the BIOS uses of the public API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hypervisor.backends import disk_image as media
from hypervisor.backends.image_source import BytesSource
from hypervisor.backends.overlay import Overlay
from hypervisor.bus.clock import ManualClock
from hypervisor.errors import GuestFault
from hypervisor.firmware.bios.bios import Bios, install
from hypervisor.firmware.bios.disk.drive_numbers import Drives
from hypervisor.firmware.bios.input.typeahead import KeyQueue
from hypervisor.firmware.bios.rom import BASE, STUB_SIZE, STUBS
from tests.boot.fakes import BusMemory

MEMORY_MAP = [(0, 0x9FC00, 1), (0x9FC00, 0x400, 2), (0xF0000, 0x10000, 2), (0x100000, 0x1F00000, 1)]
CF, ZF = 1, 1 << 6
GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp")


class Segment(NamedTuple):
    selector: int
    base: int


class FakeVcpu:
    """Registers by every name, real-mode segments, memory one to one."""

    def __init__(self, memory: BusMemory) -> None:
        object.__setattr__(self, "values", dict.fromkeys((*GENERAL, "rip", "rflags", "cr0"), 0))
        object.__setattr__(self, "memory", memory)
        object.__setattr__(self, "segments", {name: Segment(0, 0) for name in ("cs", "ds", "es", "ss")})

    def __getattr__(self, name: str) -> Any:
        if name in self.segments:
            return self.segments[name]
        whole, shift, mask = _part(name)
        return self.values[whole] >> shift & mask

    def __setattr__(self, name: str, value: int) -> None:
        whole, shift, mask = _part(name)
        assert 0 <= value <= mask, f"{name} = {value:#x}"
        self.values[whole] = self.values[whole] & ~(mask << shift) | value << shift

    def set(self, name: str, value: int) -> None:
        if name in self.segments:
            self.segments[name] = Segment(value, value << 4)
        else:
            setattr(self, name, value)

    def read(self, gva: int, size: int) -> bytes:
        if gva + size > self.memory.size:
            raise GuestFault(f"no memory at {gva:#x}")
        return self.memory.read(gva, size)

    def write(self, gva: int, data: bytes) -> None:
        if gva + len(data) > self.memory.size:
            raise GuestFault(f"no memory at {gva:#x}")
        self.memory.write(gva, data)


def _part(name: str) -> tuple[str, int, int]:
    if name in (*GENERAL, "rip", "rflags", "cr0"):
        return name, 0, (1 << 64) - 1
    if f"r{name[1:]}" in GENERAL and name[0] == "e":
        return f"r{name[1:]}", 0, (1 << 32) - 1
    if f"r{name}" in GENERAL:
        return f"r{name}", 0, 0xFFFF
    if name[0] in "abcd" and name[1:] in ("l", "h"):
        return f"r{name[0]}x", 8 if name[1] == "h" else 0, 0xFF
    raise AttributeError(name)


RTC = {0x00: 0x56, 0x02: 0x34, 0x04: 0x12, 0x07: 0x31, 0x08: 0x12, 0x09: 0x24, 0x32: 0x20, 0x0B: 0x02}


class FakePorts:
    """Ports that remember; the RTC reads a fixed date, everything else what was written last."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, int]] = []
        self.last: dict[int, int] = {0x92: 0x02}
        self.rtc = dict(RTC)

    def read(self, port: int, size: int) -> int:
        return self.rtc.get(self.last[0x70], 0) if port == 0x71 else self.last.get(port, 0xFF)

    def write(self, port: int, size: int, value: int) -> None:
        assert 0 <= value < 1 << 8 * size
        if port == 0x71:
            self.rtc[self.last[0x70]] = value
        self.writes.append((port, value))
        self.last[port] = value


class FakeTraps:
    """Takes the one registration."""

    def hypercall(self, number: int | None = None, *, name: str, rank: str) -> Callable[[Any], Any]:
        assert number is None and name == "bios" and rank == "private"
        return lambda handler: setattr(self, "handler", handler) or handler


class Machine:
    """A VM with a BIOS, and a call like the guest's INT."""

    def __init__(
        self,
        disk: bytes | None = None,
        *,
        ports: bool = True,
        typed: str = "",
        size: int = 32 << 20,
        drives: Drives | None = None,
        boot_order: str = "cad",
    ) -> None:
        self.memory = self.dma = BusMemory(size)
        self.listeners: list[Any] = []
        self.clock = ManualClock()
        self.traps = FakeTraps()
        self.ports = FakePorts()
        self.keys = KeyQueue(typed)
        self.tty = bytearray()
        self.log: list[str] = []
        self.requests: list[str] = []
        self.spent = 0
        self.vcpu = FakeVcpu(self.memory)
        self.bios: Bios = install(
            self,
            drives or Drives(disks=[] if disk is None else [media.disk(Overlay(BytesSource(disk)))]),
            self.keys,
            self.tty.extend,
            memory_map=MEMORY_MAP,
            ports=self.ports if ports else None,
            log=self.log.append,
            boot_order=boot_order,
        )

    def spend(self, ns: int) -> None:
        self.spent += ns

    def request_reset(self) -> None:
        self.requests.append("reset")

    def power_off(self) -> None:
        self.requests.append("off")

    def interrupt(self, vector: int, flags: int = 0, **registers: int) -> Any:
        """INT ``vector``: the handler's verdict. The caller's flags are then in `flags`; `waiting` is the stub's CF."""
        vcpu = self.vcpu
        for name, value in registers.items():
            vcpu.set(name, value)
        vcpu.rsp = 0x7BFA
        self.memory.write(0x7BFA, b"\x34\x12\x00\x10" + flags.to_bytes(2, "little"))
        vcpu.segments["cs"] = Segment(0xF000, BASE)
        vcpu.rip = STUBS + STUB_SIZE * vector
        return self.traps.handler(vcpu, object())  # type: ignore[attr-defined]

    @property
    def flags(self) -> int:
        return int.from_bytes(self.memory.read(0x7BFE, 2), "little")

    @property
    def carry(self) -> bool:
        return bool(self.flags & CF)

    @property
    def waiting(self) -> bool:
        return bool(self.vcpu.rflags & CF)

    def screen(self, row: int, columns: int = 80) -> str:
        cells = self.memory.read(0xB8000 + 2 * columns * row, 2 * columns)
        return cells[::2].decode("cp437").rstrip()
