"""Accesses that are not aligned, against a model of what reaches whom: random loads and stores of 1 to 16 bytes, within
pages and across them, to devices, watched memory, plain memory and nothing, in each mode, undisturbed and kicked.

Every access of at most 8 bytes that lies in one page arrives as the guest makes it. One across two pages of which any
is special comes in aligned pieces; so does one that is only partly a device's, as bytes. Nobody sees a byte that was
not asked for.
"""

from __future__ import annotations

import contextlib
import random
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

import hypervisor as hv
from hypervisor.arch import segments
from hypervisor.devices.parts.device_state import Stateless
from tests.core.bare import bare

FIRST, PAGES = 0xFC000, 7
WATCHES = ((range(0xFC800, 0xFC900), "w"), (range(0xFD000, 0xFE000), "rw"), (range(0xFF010, 0xFFFFE), "rw"))
DEVICES = {"whole": range(0x100000, 0x101000), "part": range(0x101004, 0x101FF8)}
NOWHERE = 0x100000  # from here on there is no memory
GIVEN, GOT, TABLES = 0x20000, 0x28000, 0x30000
LINEAR = 0x40000000  # where the pages are in another order
OPERATIONS = 300

Seen = tuple[str, str, int, int, int]
"""Who saw it, "r" or "w", the address (an offset in a device), the size, the value."""


class Bytes(Stateless):
    """A device that is memory and tells what reaches it."""

    def __init__(self, name: str, content: bytes, seen: list[Seen]) -> None:
        self.name, self.content, self.seen = name, bytearray(content), seen

    def read(self, offset: int, size: int) -> int:
        value = int.from_bytes(self.content[offset : offset + size], "little")
        self.seen.append((self.name, "r", offset, size, value))
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        self.seen.append((self.name, "w", offset, size, value))
        self.content[offset : offset + size] = value.to_bytes(size, "little")


@dataclass
class Model:
    """The pages, and who sees what of an access; ``order`` says where each linear page lies."""

    content: bytearray
    order: list[int]
    seen: list[Seen] = field(default_factory=list)

    def load(self, at: int, size: int) -> int:
        return sum(self._pass("r", place, n, 0) << 8 * done for done, place, n in self._pieces(at, size, "r"))

    def store(self, at: int, size: int, value: int) -> None:
        for done, place, n in self._pieces(at, size, "w"):
            self._pass("w", place, n, value >> 8 * done & (1 << 8 * n) - 1)

    def _place(self, at: int) -> int:
        return FIRST + 0x1000 * self.order[at >> 12] + (at & 0xFFF)

    def _special(self, place: int, way: str) -> bool:
        page = place & ~0xFFF
        return place >= NOWHERE or any(
            page < where.stop and where.start < page + 0x1000 and way in letters for where, letters in WATCHES
        )

    def _pieces(self, at: int, size: int, way: str) -> Iterator[tuple[int, int, int]]:
        """What an operand comes in: (bytes before it, guest-physical address, size)."""
        for part in range(0, size, 8):
            width = min(8, size - part)
            start, done = at + part, 0
            if start >> 12 == start + width - 1 >> 12:
                yield part, self._place(start), width
                continue
            special = any(self._special(self._place(start + n), way) for n in (0, width - 1))
            while done < width:
                sizes = (1, 2, 4) if special else (1,)  # nobody sees what plain memory is accessed by
                n = max(n for n in sizes if (start + done) % n == 0 and n <= width - done)
                yield part + done, self._place(start + done), n
                done += n

    def _pass(self, way: str, place: int, size: int, value: int) -> int:
        if place < NOWHERE:
            value = self._access(way, place, size, value)
            for where, letters in WATCHES:
                if way in letters and place < where.stop and where.start < place + size:
                    self.seen.append(("watch", way, place, size, value))
            return value
        for name, where in DEVICES.items():
            if place in where and place + size <= where.stop:
                value = self._access(way, place, size, value)
                self.seen.append((name, way, place - where.start, size, value))
                return value
        if not any(place < where.stop and where.start < place + size for where in DEVICES.values()):
            return (1 << 8 * size) - 1
        return sum(self._pass(way, place + n, 1, value >> 8 * n & 0xFF) << 8 * n for n in range(size))

    def _access(self, way: str, place: int, size: int, value: int) -> int:
        at = place - FIRST
        if way == "w":
            self.content[at : at + size] = value.to_bytes(size, "little")
        return int.from_bytes(self.content[at : at + size], "little")


class Mode(NamedTuple):
    """How the guest runs, and how its code reaches the pages (``operand``) and plain memory."""

    bits: int
    before: str = ""
    address: str = "mov ebx, {at}"
    operand: str = "[ebx]"
    plain: str = "[{at}]"
    base: int = FIRST
    user: bool = False


MODES = {
    "real": Mode(
        16, "mov ax, 0xf800; mov es, ax; mov ax, 0x2000; mov fs, ax", "mov bx, {at}", "es:[bx]", "fs:[{at} - 0x20000]",
        FIRST - 0xF8000,
    ),
    "protected": Mode(32),
    "long": Mode(64, address="mov rbx, {at}", operand="[rbx]"),
    "long, user": Mode(64, address="mov rbx, {at}", operand="[rbx]", user=True),
    "paged": Mode(64, address="mov rbx, {at}", operand="[rbx]", base=LINEAR),
}  # fmt: skip
REGISTER = {1: "al", 2: "ax", 4: "eax", 8: "rax"}


def operation(rng: random.Random, mode: Mode, n: int, model: Model, given: bytes) -> tuple[str, int]:
    """Code of one access, and what it must leave at `GOT`; the model makes it, too."""
    size = rng.choice((1, 2, 4, 8, 8, 10, 16))
    end = 0x1000 * PAGES - 32
    at = rng.randrange(32, end) if rng.random() < 0.4 else 0x1000 * rng.randrange(1, PAGES) - rng.randrange(20)
    kind = rng.choice(("load", "store", "add", "xchg") if size <= mode.bits // 8 else ("load", "store"))
    value = int.from_bytes(given[:size], "little")
    got, source = (mode.plain.format(at=place + 16 * n) for place in (GOT, GIVEN))
    memory, register = mode.operand, REGISTER.get(size, "")
    read = 0
    if kind == "load":
        read = model.load(at, size)
        move = {
            10: f"fld tbyte ptr {memory}; fstp tbyte ptr {got}", 16: f"movups xmm0, {memory}; movups {got}, xmm0",
        }.get(size, f"mov {register}, {memory}; mov {got}, {register}")  # fmt: skip
        if size in (2, 4, 8) and rng.random() < 0.2 and 16 < mode.bits >= 8 * size:
            move = f"movbe {register}, {memory}; movbe {got}, {register}"
        elif size == 8 and mode.bits < 64:
            move = f"movq xmm0, qword ptr {memory}; movq qword ptr {got}, xmm0"
    elif kind == "store":
        model.store(at, size, value)
        move = {
            10: f"fld tbyte ptr {source}; fstp tbyte ptr {memory}", 16: f"movups xmm0, {source}; movups {memory}, xmm0",
        }.get(size, f"mov {register}, {source}; mov {memory}, {register}")  # fmt: skip
        if size in (2, 4, 8) and rng.random() < 0.2 and 16 < mode.bits >= 8 * size:
            move = f"movbe {register}, {source}; movbe {memory}, {register}"
        elif size == 8 and mode.bits < 64:
            move = f"movq xmm0, qword ptr {source}; movq qword ptr {memory}, xmm0"
    else:
        before = model.load(at, size)
        model.store(at, size, value if kind == "xchg" else before + value & (1 << 8 * size) - 1)
        lock = rng.choice(("lock ", "")) if kind == "add" else ""
        move = f"mov {register}, {source}; {lock}{kind} {memory}, {register}"
        if kind == "xchg":
            move, read = f"{move}; mov {got}, {register}", before
    return f"{mode.address.format(at=mode.base + at)}; {move}", read


def page_tables(order: list[int]) -> bytes:
    """4-level tables at `TABLES`: memory as it lies, but for `LINEAR`, where the pages are in another order."""
    entry = struct.Struct("<Q").pack
    top = entry(TABLES + 0x1000 | 7) + bytes(4088)
    upper = entry(0x87) + entry(TABLES + 0x2000 | 7) + bytes(4080)
    middle = entry(TABLES + 0x3000 | 7) + bytes(4088)
    return top + upper + middle + b"".join(entry(FIRST + 0x1000 * page | 7) for page in order)


@contextlib.contextmanager
def kicked(host: hv.Host, wanted: bool) -> Iterator[None]:
    """Have the pCPU kicked all the time."""
    over = threading.Event()

    def kick() -> None:
        while not over.is_set():
            host.pcpus[0].kick()
            time.sleep(0)

    thread = threading.Thread(target=kick)
    if wanted:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if wanted:
            thread.join()


@pytest.mark.parametrize("kicks", [False, True], ids=["alone", "kicked"])
@pytest.mark.parametrize("space", ["physical", "virtual"])
@pytest.mark.parametrize("name", MODES)
def test_everybody_sees_what_the_guest_asks_for(name: str, space: str, kicks: bool) -> None:
    mode, rng = MODES[name], random.Random(f"{name} {space} {kicks}")
    order = list(range(PAGES))
    if mode.base == LINEAR:
        rng.shuffle(order)
    content, given = rng.randbytes(0x1000 * PAGES), rng.randbytes(16 * OPERATIONS)
    model = Model(bytearray(content), order)
    code, expected = [], []
    for n in range(OPERATIONS):
        text, left = operation(rng, mode, n, model, given[16 * n :])
        code.append(text)
        expected.append(left)
    seen: list[Seen] = []

    def look(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
        seen.append(("watch", "w" if exit.write else "r", exit.gpa, exit.size, exit.value))

    with hv.Host("2M", 1) as host, bare("; ".join([mode.before, "fninit", *code, "vmmcall"]), mode.bits, host) as vm:
        vm.memory.write(FIRST, content[: NOWHERE - FIRST])
        vm.memory.write(GIVEN, given)
        vm.vcpu.cr4 |= 0x600
        if mode.base == LINEAR:
            vm.memory.write(TABLES, page_tables(order))
            vm.vcpu.cr3 = TABLES
        if mode.user:
            vm.vcpu.cs = hv.Segment(0x1B, 0, 0xFFFFFFFF, segments.CODE64 | 0x60)
            vm.vcpu.ss = hv.Segment(0x23, 0, 0xFFFFFFFF, segments.DATA32 | 0x60)
        for device, where in DEVICES.items():
            vm.attach(Bytes(device, content[where.start - FIRST : where.stop - FIRST], seen), mmio=where)
        for where, letters in WATCHES:
            linear = order.index((where.start - FIRST) >> 12) * 0x1000 + (where.start & 0xFFF) + LINEAR
            watched = range(linear, linear + len(where)) if space == "virtual" and mode.base == LINEAR else where
            vm.traps.memory(
                watched, look, access=letters, space=space, mode="observe", when="after", name=f"{where.start:#x}"
            )
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("all done"))
        with kicked(host, kicks):
            assert vm.run(timeout=60).message == "all done"
        sizes = [max(1, left.bit_length() + 7 >> 3) for left in expected]
        assert seen == model.seen
        assert [
            int.from_bytes(vm.memory.read(GOT + 16 * n, size), "little") for n, size in enumerate(sizes)
        ] == expected
        assert vm.memory.read(FIRST, NOWHERE - FIRST) == model.content[: NOWHERE - FIRST]
    assert len(seen) > OPERATIONS // 2


@pytest.mark.parametrize("code", ["mov rax, [rbx]", "mov [rbx], rax", "add [rbx], rax", "movups [rbx], xmm0"])
@pytest.mark.parametrize("device_first", [True, False], ids=["the page behind faults", "the page before faults"])
def test_a_device_sees_nothing_of_an_access_that_faults(code: str, device_first: bool) -> None:
    order = [4, 0] if device_first else [0, 4]
    missing = 1 if device_first else 0
    seen: list[Seen] = []
    with bare(f"{code}; hlt", rbx=LINEAR + 0xFFD) as vm:
        tables = bytearray(page_tables(order))
        tables[0x3000 + 8 * missing] = 0
        vm.memory.write(TABLES, bytes(tables))
        vm.vcpu.cr3 = TABLES
        vm.attach(Bytes("whole", bytes(0x1000), seen), mmio=DEVICES["whole"])

        @vm.traps.exception(14)
        def page_fault(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            return hv.stop(f"{exit.address:#x}")

        assert vm.run(timeout=20).message == hex(LINEAR + (0x1000 if device_first else 0xFFD))
        assert vm.vcpu.rip == 0x10000 and seen == []


def test_code_that_overwrites_itself_and_a_device_behind_it_does_so_once() -> None:
    """Its block is thrown away and the instruction begun again, before the device has seen the store."""
    seen: list[Seen] = []
    where = NOWHERE - 16
    with bare("jmp rbx", rbx=where, rdi=NOWHERE - 2, rax=0xA5A5_90F4) as vm:
        vm.memory.write(where, b"\x89\x07" + b"\x90" * 14)  # mov [rdi], eax; the last NOPs become HLT, NOP
        vm.attach(Bytes("whole", bytes(0x1000), seen), mmio=DEVICES["whole"])
        assert vm.run(timeout=20).reason is hv.Reason.HALTED
        assert vm.vcpu.rip == NOWHERE - 1
    assert seen == [("whole", "w", 0, 2, 0xA5A5)]


def test_a_stop_by_a_handler_of_an_access_across_pages() -> None:
    """The verdict on a piece leaves the guest before the instruction, which then begins again."""
    seen: list[tuple[int, int]] = []

    def stop_once(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        seen.append((exit.gpa, exit.size))
        exit.value = 0x11 * len(seen)
        return hv.stop("here") if len(seen) == 2 else hv.HANDLED

    with bare("mov rax, [rbx]; hlt", rbx=NOWHERE + 0xFFA) as vm:
        vm.traps.mmio_read(range(NOWHERE, NOWHERE + 0x2000), stop_once)
        assert vm.run(timeout=20).message == "here"
        assert vm.vcpu.rip == 0x10000 and vm.vcpu.rax == 0
        assert vm.run(timeout=20).reason is hv.Reason.HALTED
        assert vm.vcpu.rax == 0x55_0000_0044_0033
    pieces = [(NOWHERE + 0xFFA, 2), (NOWHERE + 0xFFC, 4), (NOWHERE + 0x1000, 2)]
    assert seen == pieces[:2] + pieces
