"""REP INS and REP OUTS on a device that moves several elements at once: the guest cannot tell that it does."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

import hypervisor as hv
from tests.sectors import boot_sector

PORT, BUFFER = 0x300, 0x20000
SIZES = {"b": 1, "w": 2, "d": 4}


@dataclass
class Stream:
    """Reads give numbered bytes, writes are kept. It has at most ``batch`` elements at hand."""

    batch: int = 0
    name: str = "stream"
    at: int = 0
    written: bytearray = field(default_factory=bytearray)
    calls: int = 0

    def read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def take(self, size: int) -> bytes:
        self.at += size
        return bytes(n * 7 & 0xFF for n in range(self.at - size, self.at))

    def write(self, offset: int, size: int, value: int) -> None:
        self.written += value.to_bytes(size, "little")

    def reset(self) -> None:
        return None

    def state(self) -> None:
        return None

    def restore(self, state: object) -> None:
        return None


class Batches(Stream):
    """A string port."""

    string_offset = 0

    def read_string(self, offset: int, size: int, count: int) -> bytes:
        assert 0 < count * size < 4096
        self.calls += 1
        return self.take(min(count, self.batch) * size)

    def write_string(self, offset: int, size: int, content: bytes) -> int:
        assert 0 < len(content) < 4096 and len(content) % size == 0
        self.calls += 1
        taken = content[: self.batch * size]
        self.written += taken
        return len(taken)


def run(stream: Stream, code: str, mode: int, regs: dict[str, int], setup: Callable[[hv.VM], object] | None) -> Any:
    """What can be seen of a run: registers, memory, the device, the time, the exits."""
    memory = []

    def prepare(vm: hv.VM) -> None:
        vm.attach(stream, ports=range(PORT, PORT + 4))
        vm.memory.write(BUFFER - 0x1000, bytes(n * 3 & 0xFF for n in range(0x6000)))
        if setup is not None:
            setup(vm)
        memory.append(vm.memory)

    seen: list[Any] = []

    def at_end(vm: hv.VM) -> None:
        prepare(vm)

        @vm.traps.hlt(mode="observe")
        def hlt(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            seen.append(vm.memory.read(BUFFER - 0x1000, 0x6000))

    result = hv.run_asm(f"{code}; hlt", mode=mode, regs=regs, setup=at_end)
    assert result.reason is hv.Reason.HALTED, result.message
    names = ("rax", "rcx", "rdx", "rbx", "rsi", "rdi", "rbp", "rsp", "rflags")
    return (
        [getattr(result, name) for name in names],
        seen,
        stream.at,
        bytes(stream.written),
        result.virtual_s,
        result.exits,
    )


def compare(
    code: str, mode: int, regs: dict[str, int], batch: int = 1 << 20, setup: Callable[[hv.VM], object] | None = None
) -> int:
    """Run with and without batches; the calls that were saved by them."""
    batches = Batches(batch)
    regs = {"rdx": PORT, "rdi": BUFFER, "rsi": BUFFER, **regs}
    one, other = run(Stream(), code, mode, regs, setup), run(batches, code, mode, regs, setup)
    assert one == other
    return batches.calls


@pytest.mark.parametrize("letter", "bwd")
@pytest.mark.parametrize("mode", [32, 64])
@pytest.mark.parametrize("name", ["ins", "outs"])
def test_a_long_string_is_moved_page_by_page(name: str, mode: int, letter: str) -> None:
    count = 0x2000 // SIZES[letter]
    assert compare(f"cld; rep {name}{letter}", mode, {"rcx": count}) == 2
    offset = 100 * SIZES[letter]
    assert (
        compare(f"cld; rep {name}{letter}", mode, {"rcx": count, "rdi": BUFFER + offset, "rsi": BUFFER + offset}) == 3
    )


@pytest.mark.parametrize("name", ["ins", "outs"])
def test_real_mode_with_segments_and_the_wrap_at_64_kib(name: str) -> None:
    segments = "mov ax, 0x2000; mov ds, ax; mov es, ax; cld"
    assert compare(f"{segments}; rep {name}w", 16, {"rcx": 256, "rdi": 0x400, "rsi": 0x400}) == 1
    regs = {"rcx": 0x180, "rdi": 0xFF00, "rsi": 0xFF00}
    assert compare(f"mov ax, 0x1100; mov ds, ax; mov es, ax; cld; rep {name}w", 16, regs) >= 2


@pytest.mark.parametrize("code", ["rep insw", "rep outsw"])
def test_upper_halves_of_registers_are_as_the_width_says(code: str) -> None:
    high = 0xABCD << 48
    assert compare(f"cld; mov rax, {high:#x}; or rcx, rax; .byte 0x67; {code}", 64, {"rcx": 100}) == 1


@pytest.mark.parametrize(
    ("mode", "code", "regs"),
    [
        (32, "std; rep insw", {"rcx": 50, "rdi": BUFFER + 0x200}),
        (32, "std; rep outsw", {"rcx": 50, "rsi": BUFFER + 0x200}),
        (32, "cld; insw; insb; outsw", {"rcx": 50}),
        (32, "cld; rep insw", {"rcx": 0}),
        (32, "cld; rep insw", {"rcx": 1}),
        (32, "in ax, dx; out dx, ax", {"rcx": 50}),
        (64, "cld; .byte 0xf3, 0x64, 0x6e", {"rcx": 50}),
    ],
)
def test_what_is_moved_element_by_element(mode: int, code: str, regs: dict[str, int]) -> None:
    assert compare(code, mode, regs) == 0


def test_a_device_with_little_at_hand() -> None:
    for batch in (0, 1, 2, 17):
        compare("cld; rep insw; mov ecx, 100; rep outsb", 32, {"rcx": 300}, batch)


def test_random_strings() -> None:
    rng = random.Random(5)
    for _ in range(40):
        name, letter = rng.choice(("ins", "outs")), rng.choice("bwd")
        at = BUFFER + rng.randrange(0x1800)
        regs = {"rcx": rng.randrange(1, 1500), "rdi": at, "rsi": at}
        compare(
            f"{rng.choice(('cld', 'cld', 'std'))}; rep {name}{letter}",
            rng.choice((32, 64)),
            regs,
            rng.choice((3, 64, 9999)),
        )


def test_watched_memory_is_told_of_each_element() -> None:
    told: list[int] = []

    def watch(vm: hv.VM) -> None:
        vm.traps.memory(
            range(BUFFER, BUFFER + 64), lambda vcpu, exit: told.append(exit.address), access="w", mode="observe"
        )

    assert compare("cld; rep insw", 32, {"rcx": 64}, setup=watch) == 0
    assert len(set(told)) == 32


def test_a_handler_of_the_port_sees_each_element() -> None:
    seen: list[int] = []

    def listen(vm: hv.VM) -> None:
        vm.traps.port_in(PORT, lambda vcpu, exit: seen.append(exit.size), mode="observe")

    assert compare("cld; rep insw", 32, {"rcx": 64}, setup=listen) == 0
    assert len(seen) >= 128  # both runs


def test_single_steps_are_elements() -> None:
    vm = hv.boot(boot_sector(b"\xba\x00\x03\xb9\x10\x00\xbf\x00\x90\xfc\xf3\x6d\xf4"), memory="4M")
    with vm:
        stream = Batches(100)
        vm.attach(stream, ports=range(PORT, PORT + 4))
        assert vm.vcpu.step(4 + 3) == 7
        assert (vm.vcpu.cx, stream.calls) == (13, 0)
        vm.run(timeout=10)
        assert (vm.vcpu.cx, vm.vcpu.di, stream.calls) == (0, 0x9020, 1)


def test_a_timer_fires_between_the_same_elements() -> None:
    """The PIT's interrupt finds the same count in CX, at any period."""
    code = """
      cli; xor ax, ax; mov ds, ax; mov bx, tick; mov [0x20], bx; mov [0x22], ax
      mov al, 0x34; out 0x43, al; mov al, {divisor}; out 0x40, al; mov al, 1; out 0x40, al
      sti; cld; mov ax, 0x2000; mov es, ax; xor di, di; mov dx, 0x300; mov cx, 0x1800; rep insb; cli; hlt
    tick: push ax; mov al, 0x20; out 0x20, al; mov bx, [0x600]; mov [bx + 0x602], cx; add word ptr [0x600], 2
      pop ax; iret
    """
    for divisor in (3, 40, 200):
        seen = []
        for stream in (Stream(), Batches(999999)):
            with hv.boot(boot_sector(code.format(divisor=divisor)), memory="4M") as vm:
                vm.attach(stream, ports=range(PORT, PORT + 4))
                result = vm.run(timeout=20)
                seen.append((vm.memory.read(0x600, 256), vm.memory.read(0x20000, 0x1800), result.virtual_s))
        assert seen[0] == seen[1]
        assert seen[0][0][:2] > b"\x10\0"
