"""A guest that fills all state that it can reach with a pattern and then compares it with what it was, again and again.

Whatever another VM on the same processor leaves behind, or takes along, shows as a difference. Each vCPU has code,
tables and places of its own at the same addresses in every VM; only the pattern differs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import hypervisor as hv
from hypervisor._face import CODE, STACK
from hypervisor.arch import flags as f
from hypervisor.arch import msr as m
from hypervisor.arch.msr import MSRS, Home
from hypervisor.assembler import assemble
from hypervisor.machine.bare import prepare

_AREA, _STRIDE = 0x20000, 0x10000
"""Where a vCPU's places are; those of the next one follow."""
_GDT, _TABLE, _VALUES, _NOW, _THEN, _COUNT, _STACK = 0x0, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x8000
_SIZE = 0x1000
_GPR = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
_SEGMENT_NAMES = ("es", "cs", "ss", "ds", "fs", "gs")
_FLAGS, _FXSAVE, _SEGMENTS, _CONTROL, _DEBUG, _OTHERS, _MSRS = 0x80, 0x200, 0x90, 0x100, 0x140, 0x180, 0x400
_NOT_WRITTEN = {m.APIC_BASE, m.EFER, m.TSC}
"""What a keeper leaves alone: the bare machine has no APIC, EFER's bits are its mode, and the TSC moves."""


def _word(tag: int, number: int = 0) -> int:
    """64 bits of the pattern, another one for each number; a canonical address of the lower half."""
    return int.from_bytes(bytes([tag ^ number, tag, number, tag, tag ^ 0xFF, tag & 0x7F]), "little")


def _xmm(tag: int, number: int) -> bytes:
    return struct.pack("<QQ", _word(tag, 32 + number), ~_word(tag, 64 + number) & m.MASK64)


def msr_values(tag: int) -> dict[int, int]:
    """What a keeper writes into each model-specific register."""
    values = {}
    for n, (number, msr) in enumerate(sorted(MSRS.items())):
        if msr.home is Home.CONSTANT or not msr.writable or number in _NOT_WRITTEN:
            continue
        value = _word(tag, n) & (0xFFFF if number == m.SYSENTER_CS else msr.writable)  # the engine has 16 bits of it
        kinds = sorted(msr.types)
        low = bytes(kinds[(tag + n + at) % len(kinds)] for at in range(msr.typed))
        value = value & ~((1 << 8 * msr.typed) - 1) | int.from_bytes(low, "little")
        checked = msr.checked(msr.reset, value)
        assert checked is not None, msr
        values[number] = checked
    return values


def _fill(tag: int, at: int) -> str:
    """Put the pattern everywhere, the general registers last."""
    xmm = "\n".join(f"movups xmm{n}, [{at + _VALUES + 0x100 + 16 * n}]" for n in range(16))
    x87 = "\n".join(f"fld tbyte ptr [{at + _VALUES + 16 * n}]" for n in range(8))
    debug = "\n".join(f"mov rax, {0x30000000 + (tag << 12) + 64 * n}; mov dr{n}, rax" for n in range(4))
    general = "\n".join(f"movabs {name}, {_word(tag, n)}" for n, name in enumerate(_GPR) if name != "rsp")
    cr0 = f.CR0_PE | f.CR0_ET | f.CR0_PG | f.CR0_NE | (f.CR0_WP if tag & 1 else f.CR0_AM)
    cr4 = f.CR4_PAE | f.CR4_OSFXSR | f.CR4_OSXMMEXCPT | f.CR4_OSXSAVE | (f.CR4_PGE if tag & 1 else f.CR4_PCE)
    enables = 0xF0000400 | (0x3 if tag & 1 else 0xC)  # breakpoints, two of them on, where nobody goes
    arithmetic = f.RFLAGS_CF | f.RFLAGS_SF | f.RFLAGS_AF if tag & 1 else f.RFLAGS_ZF | f.RFLAGS_OF | f.RFLAGS_DF
    flags = f.RFLAGS_FIXED | arithmetic
    return f"""
    mov rsp, {at + _STACK}
    lgdt [{at + _GDT + 0x100}]
    lidt [{at + _GDT + 0x110}]
    mov ax, 0x18; lldt ax
    mov ax, 0x28; ltr ax
    mov ax, {0x38 if tag & 1 else 0x10}; mov es, ax; mov ds, ax
    mov ax, 0; mov fs, ax; mov gs, ax
    mov rax, {cr0}; mov cr0, rax
    mov rax, {cr4}; mov cr4, rax
    movabs rax, {_word(tag, 99)}; mov cr2, rax
    mov rax, {tag & 0xF}; mov cr8, rax
    xor ecx, ecx; xor edx, edx; mov eax, {3 if tag & 1 else 1}; xsetbv
    {debug}
    mov rax, {0xFFFF0FF0 | tag & 0xF}; mov dr6, rax
    mov rax, {enables}; mov dr7, rax
    fninit
    fldcw [{at + _VALUES + 0x300}]
    {x87}
    ldmxcsr [{at + _VALUES + 0x308}]
    {xmm}
    mov rsi, {at + _TABLE}
    mov ebx, {len(msr_values(tag))}
    write: mov ecx, [rsi]; mov eax, [rsi + 4]; mov edx, [rsi + 8]; wrmsr; add rsi, 12; dec ebx; jnz write
    push {flags}; popfq
    {general}
    """


def _each(kind: str, numbers: tuple[int, ...], at: int) -> str:
    """Write these control or debug registers down."""
    return "\n".join(f"mov rax, {kind}{n}; mov [{at + 8 * place}], rax" for place, n in enumerate(numbers))


def _look(tag: int, at: int) -> str:
    """Write all of it down, compare, put back what looking has changed, and again."""
    now = at + _NOW
    save = "\n".join(f"mov [{now + 8 * n}], {name}" for n, name in enumerate(_GPR))
    restore = "\n".join(f"mov {name}, [{now + 8 * n}]" for n, name in enumerate(_GPR) if name != "rsp")
    segments = "\n".join(f"mov [{now + _SEGMENTS + 2 * n}], {name}" for n, name in enumerate(_SEGMENT_NAMES))
    control = _each("cr", (0, 2, 3, 4, 8), now + _CONTROL)
    debug = _each("dr", (0, 1, 2, 3, 6, 7), now + _DEBUG)
    return f"""
    again:
    {save}
    pushfq; pop rax; mov [{now + _FLAGS}], rax; cld
    fxsave64 [{now + _FXSAVE}]
    {segments}
    {control}
    {debug}
    sgdt [{now + _OTHERS}]; sidt [{now + _OTHERS + 16}]; sldt [{now + _OTHERS + 32}]; str [{now + _OTHERS + 34}]
    xor ecx, ecx; xgetbv; mov [{now + _OTHERS + 40}], eax; mov [{now + _OTHERS + 44}], edx
    rdtscp; mov [{now + _OTHERS + 48}], ecx
    mov rsi, {at + _TABLE}; mov rdi, {now + _MSRS}; mov ebx, {len(msr_values(tag))}
    read: mov ecx, [rsi]; rdmsr; mov [rdi], eax; mov [rdi + 4], edx; add rsi, 12; add rdi, 8; dec ebx; jnz read
    mov rsi, {now}; mov rdi, {at + _THEN}; mov ecx, {_SIZE // 8}
    cmp qword ptr [{at + _COUNT}], 0
    jne compare
    rep movsq
    jmp same
    compare: repe cmpsq
    jne differs
    same:
    inc qword ptr [{at + _COUNT}]
    push qword ptr [{now + _FLAGS}]; popfq
    {restore}
    jmp again
    differs: mov [{at + _COUNT + 8}], rsi
    cli
    hlt
    """


_SHOWN = (
    *_GPR, *_SEGMENT_NAMES, "ldtr", "tr", "gdtr", "idtr", "rip", "rflags", "cr0", "cr2", "cr3", "cr4", "cr8",
    "dr0", "dr1", "dr2", "dr3", "dr6", "dr7",
)  # fmt: skip
"""Registers that the host side shows by name."""


class Seen(NamedTuple):
    """What a keeper's vCPU has found out."""

    rounds: int
    difference: int
    """Offset of the first difference behind which it stopped, 0 if there is none."""
    first: bytes
    """Everything, as it was the first time."""


def saved_words(vcpu: hv.Vcpu) -> list[int]:
    """The engine's words of a vCPU that is not on a pCPU."""
    return list(vcpu.state.extra)


class Keeper:
    """A VM of keepers, one on each vCPU, with the pattern ``tag`` (8 bits)."""

    rounds_at: int
    """The linear address at which the first one's rounds begin."""

    def __init__(self, host: hv.Host, tag: int, cpus: int = 1, clock: str = "virtual") -> None:
        self.tag, self.cpus = tag, cpus
        self.vm = hv.VM(host, hv.MachineConfig(memory="1M", name=f"keeper {tag:#x}", clock=clock, cpus=cpus))
        first = self.vm.vcpu
        for number in range(cpus):
            at, place = CODE + 0x2000 * number, _AREA + _STRIDE * number
            source = _fill(tag ^ number << 1, place) + _look(tag ^ number << 1, place)
            image = assemble(source, origin=at, mode=64)
            code = image.code
            if number == 0:
                self.rounds_at = image.symbols["again"]
                prepare(self.vm, code, 64, at, STACK)
            else:
                self._start(number, first, at, code)
            self._tables(tag ^ number << 1, place)
        self.vm.memory.write(0xC0000, bytes([tag]) * 0x10000)
        self.screen = self.vm.add_memory(0x100000, 0x4000, "screen")
        self.vm.memory.write(0x100000, bytes([tag]) * 0x4000)

    def _start(self, number: int, first: hv.Vcpu, at: int, code: bytes) -> None:
        vcpu = self.vm.vcpus[number]
        self.vm.memory.write(at, code)
        vcpu.startup(0)
        for name in ("es", "cs", "ss", "ds", "fs", "gs", "gdtr", "idtr"):
            setattr(vcpu, name, getattr(first, name))
        for name in ("cr3", "cr4", "efer", "cr0"):
            vcpu.set(name, first.get(name))
        vcpu.rip = at

    def _tables(self, tag: int, at: int) -> None:
        write = self.vm.memory.write
        base = 0x60000000 | tag << 16
        high = (base >> 24) << 56 | (base >> 16 & 0xFF) << 32 | (base & 0xFFFF) << 16
        ldt, tss = (high | 0x67 | kind << 40 for kind in (0x82, 0x89))
        data = 0x00CF93000000FFFF
        write(at + _GDT, struct.pack("<8Q", 0, 0x00AF9B000000FFFF, data, ldt, 0, tss, 0, data))
        write(at + _GDT + 0x100, struct.pack("<HQ", 0x3F + (tag & 0x3F) * 8, at + _GDT))
        write(at + _GDT + 0x110, struct.pack("<HQ", tag << 4 | 0xF, _word(tag, 98)))
        rows = (struct.pack("<IQ", number, value) for number, value in msr_values(tag).items())
        write(at + _TABLE, b"".join(rows))
        for n in range(8):
            write(at + _VALUES + 16 * n, struct.pack("<QH", 1 << 63 | _word(tag, n), 0x3F00 | tag & 0x7F))
        write(at + _VALUES + 0x100, b"".join(_xmm(tag, n) for n in range(16)))
        write(at + _VALUES + 0x300, struct.pack("<HxxxxxxI", 0x37F ^ (tag & 3) << 10, 0x1F80 ^ (tag & 3) << 13))

    def run(self, virtual_s: float | None = None, host_s: float = 20) -> None:
        """Run it for a while; it must go on by itself."""
        result = self.vm.run(timeout=host_s, virtual_timeout=virtual_s)
        assert result.reason in (hv.Reason.VIRTUAL_TIMEOUT, hv.Reason.TIMEOUT), (result, self.seen())

    def seen(self) -> list[Seen]:
        """What each vCPU has found out so far."""
        found = []
        for number in range(self.cpus):
            at = _AREA + _STRIDE * number
            rounds, where = struct.unpack("<QQ", self.vm.memory.read(at + _COUNT, 16))
            found.append(Seen(rounds, where and where - at - _NOW, self.vm.memory.read(at + _THEN, _SIZE)))
        return found

    def check(self, rounds: int = 1) -> None:
        """Every vCPU has looked at least ``rounds`` times, and found its own pattern each time."""
        for number, seen in enumerate(self.seen()):
            tag = self.tag ^ number << 1
            assert seen.rounds >= rounds and not seen.difference, (hex(self.tag), number, seen)
            written = struct.unpack(f"<{len(msr_values(tag))}Q", seen.first[_MSRS:][: 8 * len(msr_values(tag))])
            assert dict(zip(msr_values(tag), written, strict=True)) == msr_values(tag)
            general = struct.unpack("<16Q", seen.first[:128])
            assert all(general[n] == _word(tag, n) for n, name in enumerate(_GPR) if name != "rsp")
            assert seen.first[_FXSAVE + 160 : _FXSAVE + 416] == b"".join(_xmm(tag, n) for n in range(16))
            assert seen.first[_FXSAVE + 32 : _FXSAVE + 40] == struct.pack("<Q", 1 << 63 | _word(tag, 7))
        assert self.vm.memory.read(0x100000, 0x4000) == bytes([self.tag]) * 0x4000
        assert self.vm.memory.read(0xC0000, 0x10000) == bytes([self.tag]) * 0x10000

    def everything(self) -> dict[str, Any]:
        """All that the host side sees of it: memory, and each vCPU's registers and saved state, all of it."""
        state: dict[str, Any] = {"memory": self.vm.memory.read(0, self.vm.memory.size + 0x4000)}
        with self.vm.placed() as pcpu:
            pcpu.unload()
            for vcpu in self.vm.vcpus:
                state[f"saved {vcpu.number}"] = bytes(vcpu.state.memory)
                state[f"saved words {vcpu.number}"] = saved_words(vcpu)
            pcpu.load(self.vm.current.state)
        for vcpu in self.vm.vcpus:
            state[f"registers {vcpu.number}"] = {name: getattr(vcpu, name) for name in _SHOWN}
            state[f"msrs {vcpu.number}"] = {number: vcpu.msr[number] for number in MSRS if number != m.TSC}
            state[f"xmm {vcpu.number}"] = [vcpu.registers.xmm(n) for n in range(16)]
            state[f"x87 {vcpu.number}"] = [vcpu.registers.x87, *(vcpu.registers.st(n) for n in range(8))]
        return state


@contextmanager
def keepers(host: hv.Host, *tags: int, cpus: int = 1, clock: str = "virtual") -> Iterator[list[Keeper]]:
    """Keepers with these patterns, closed at the end."""
    made: list[Keeper] = []
    try:
        for tag in tags:
            made.append(Keeper(host, tag, cpus, clock))
        yield made
    finally:
        for keeper in made:
            keeper.vm.close()
