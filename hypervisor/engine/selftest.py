"""Does the loaded Unicorn fit the layout table? Proved before the first guest runs, once per process.

`quick` writes registers through Unicorn's API and looks for them at the table's offsets. `check` also runs a guest
and compares what came out: bytes in memory, a page fault at a known address, a port and a device access, stops that
repeat nothing. A wrong table must end in a sentence and not in a crash, so memory is read through the kernel here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache as remember
from typing import Any

from hypervisor.arch.exits import ExitKind
from hypervisor.engine import layout
from hypervisor.engine.instance.room import check_room
from hypervisor.engine.interposition.native import native
from hypervisor.errors import EngineError
from hypervisor.memory import HostMemory

_PAGE, _CODE_CACHE = 4096, 1 << 20
_NOTHING_FOLLOWS = 0xC033  # xor eax, eax: no block is executed next


class _DoubtError(Exception):
    """What does not fit."""


def _refuse(what: str) -> EngineError:
    known = " or ".join(layout.UNICORN_VERSIONS)
    places = ", ".join(f"{place.system} {place.machine}" for place in layout.SUPPORTED)
    return EngineError(
        f"The loaded build of Unicorn cannot be used: {what}. Builds that work: the wheel of unicorn {known} "
        f"from PyPI on {places}. Install it: pip install --force-reinstall unicorn=={layout.UNICORN_VERSIONS[-1]}."
    )


# --- the table ------------------------------------------------------------------------------------------------------


class _Process:
    """This process's memory, read so that a wild address is an error and not a crash."""

    def __init__(self) -> None:
        self._file = os.open("/proc/self/mem", os.O_RDONLY)

    def word(self, address: int, size: int = 8) -> int:
        """An unsigned little-endian word."""
        try:
            data = os.pread(self._file, size, address)
        except (OSError, OverflowError):
            data = b""
        if len(data) != size:
            raise _DoubtError(f"the layout table leads to {address:#x}, where this process has no memory")
        return int.from_bytes(data, "little")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _written(uc: Any, const: Any) -> Iterator[tuple[str, int, int, int]]:
    """Registers written through the API: (name, offset in the CPU state, size, value)."""
    pattern = 0x1020304050607080

    def register(name: str, value: Any, *fields: tuple[int, int, int]) -> Iterator[tuple[str, int, int, int]]:
        uc.reg_write(getattr(const, f"UC_X86_REG_{name}"), value)
        for offset, size, expected in fields:
            yield name, offset, size, expected

    names = ("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", *(f"R{n}" for n in range(8, 16)))
    for n, name in enumerate(names):
        yield from register(name, pattern + n, (layout.REGS + 8 * n, 8, pattern + n))
    yield from register("RIP", 0x12340, (layout.EIP, 8, 0x12340))
    yield from register("EFLAGS", 0x8D7, (layout.EFLAGS, 8, 0x8D7))
    for n, name in ((2, "CR2"), (3, "CR3")):
        yield from register(name, 0x7000 + n * 0x1000, (layout.CR + 8 * n, 8, 0x7000 + n * 0x1000))
    for name, at, n in (("GDTR", layout.GDT, 1), ("IDTR", layout.IDT, 2)):
        base, limit = 0x55500000 + n, 0x123 + n
        yield from register(
            name, (0, base, limit, 0), (at + layout.SEG_BASE, 8, base), (at + layout.SEG_LIMIT, 4, limit)
        )
    for name, at, n in (("LDTR", layout.LDT, 1), ("TR", layout.TR, 2)):
        base, limit, flags = 0x66600000 + n, 0x456 + n, 0x8200 + 0x700 * (n - 1)
        fields = ((layout.SEG_SELECTOR, 4, 8 * n), (layout.SEG_BASE, 8, base), (layout.SEG_LIMIT, 4, limit))
        yield from register(name, (8 * n, base, limit, flags), *((at + o, s, v) for o, s, v in fields))
    for name, segment in (("FS_BASE", layout.FS), ("GS_BASE", layout.GS)):
        at = layout.SEGS + layout.SEG_SIZE * segment + layout.SEG_BASE
        yield from register(name, 0x77700000 + segment, (at, 8, 0x77700000 + segment))
    value = 0x0123456789ABCDEF0F1E2D3C4B5A6978
    yield from register("XMM0", value, (layout.XMM, 8, value & (1 << 64) - 1), (layout.XMM + 8, 8, value >> 64))
    yield from register("MXCSR", 0x1FA0, (layout.MXCSR, 4, 0x1FA0))
    yield from register("FPCW", 0x27F, (layout.FPUC, 2, 0x27F))
    yield from register("FPSW", 0x2941, (layout.FPSTT, 4, 5), (layout.FPUS, 2, 0x141))
    yield from register("FPTAG", 0x3FFC, (layout.FPTAGS, 8, 0x0001010101010100))
    for name, at, size in (
        ("FCS", layout.FPCS, 2),
        ("FDS", layout.FPDS, 2),
        ("FIP", layout.FPIP, 8),
        ("FDP", layout.FPDP, 8),
    ):
        yield from register(name, 0x1230 + size, (at, size, 0x1230 + size))
    for number, offset, size, name in (
        (0xC0000081, layout.STAR, 8, "STAR"),
        (0xC0000082, layout.LSTAR, 8, "LSTAR"),
        (0xC0000083, layout.CSTAR, 8, "CSTAR"),
        (0xC0000084, layout.FMASK, 8, "SFMASK"),
        (0xC0000102, layout.KERNEL_GS_BASE, 8, "KERNEL_GS_BASE"),
        (0xC0000103, layout.TSC_AUX, 8, "TSC_AUX"),
        (0xC0010117, layout.VM_HSAVE, 8, "VM_HSAVE_PA"),
        (0x174, layout.SYSENTER_CS, 4, "SYSENTER_CS"),
        (0x175, layout.SYSENTER_ESP, 8, "SYSENTER_ESP"),
        (0x176, layout.SYSENTER_EIP, 8, "SYSENTER_EIP"),
        (0x277, layout.PAT, 8, "PAT"),
    ):
        value = (number & 0xFF) << 8 | 8
        uc.msr_write(number, value)
        yield name, offset, size, value


def _translator(process: _Process, engine: int) -> int:
    """The address of the translator's state."""
    return process.word(engine + layout.UC_TCG_CONTEXT)


def _prove_room(process: _Process, engine: int) -> None:
    """Where generated code lies, and where the next goes: nearly nothing is there yet."""
    at = _translator(process, engine)
    start, size, following, limit = (
        process.word(at + offset)
        for offset in (layout.TCG_BUFFER, layout.TCG_BUFFER_SIZE, layout.TCG_CODE_NEXT, layout.TCG_CODE_LIMIT)
    )
    end, aligned = start + size, start % _PAGE == 0
    if size != _CODE_CACHE or not aligned or not start < following < start + _PAGE or not 0 < end - limit < 4 * _PAGE:
        raise _DoubtError("the room for generated code is not where the layout table says")
    epilogue = process.word(at + layout.TCG_EPILOGUE)
    if not start <= epilogue < following or process.word(epilogue, 2) != _NOTHING_FOLLOWS:
        raise _DoubtError("the end of generated code is not where the layout table says")


def _prove_jump_cache(engine: int, cpu: int) -> None:
    """The cache of translated blocks, after some have run: each lies where its address says, and has code."""
    process, half = _Process(), layout.JUMP_CACHE_BITS // 2
    try:
        at = _translator(process, engine)
        room = range(process.word(at + layout.TCG_BUFFER), process.word(at + layout.TCG_CODE_NEXT))
        places = ((n, process.word(cpu + layout.CPU_JUMP_CACHE + 8 * n)) for n in range(1 << layout.JUMP_CACHE_BITS))
        blocks = {n: block for n, block in places if block}
        for n, block in blocks.items():
            pc, code = process.word(block + layout.TB_PC), process.word(block + layout.TB_CODE)
            low, high = (1 << half) - 1, (1 << 2 * half) - (1 << half)
            mixed = pc ^ pc >> half
            if n != (mixed >> half & high | mixed & low) or code not in room:
                raise _DoubtError("a translated block is not in the cache of blocks as the layout table says")
            if process.word(block + layout.TB_CFLAGS, 4) & layout.TB_SPECIAL or process.word(block + layout.TB_CS_BASE):
                raise _DoubtError("a translated block does not say what it is for where the layout table says")
    finally:
        process.close()
    if not blocks:
        raise _DoubtError("the cache of translated blocks is not where the layout table says")


def _prove_sizes(state: int, used: bool) -> None:
    """The TLB's bookkeeping, after it has been used or flushed: no large pages, and entries in use or none."""
    process = _Process()
    try:
        rows = [state + layout.TLB_SLOW + layout.TLB_SLOW_SIZE * n for n in range(layout.TLB_INDEXES)]
        pages = {process.word(row + offset) for row in rows for offset in (0, 8)}
        entries = [process.word(row + layout.TLB_USED) for row in rows]
        most = [process.word(row + layout.TLB_WINDOW_MOST) for row in rows]
    finally:
        process.close()
    if pages != {(1 << 64) - 1} or bool(sum(entries)) is not used or max(entries) > 256 or not max(most) <= 256:
        raise _DoubtError("the bookkeeping of the TLB is not where the layout table says")


def _prove_operations(engine: int) -> None:
    """The last block's operations end where the table says: a list whose last one has none behind it."""
    process = _Process()
    try:
        last = process.word(_translator(process, engine) + layout.TCG_LAST_OP)
        if process.word(last) != 0 or process.word(process.word(last + 8)) != last - 8:
            raise _DoubtError("the translator's list of operations does not end where the layout table says")
    finally:
        process.close()


@remember
def quick() -> None:
    """Prove the offsets of what Unicorn's API can write (about two milliseconds); raise `EngineError` otherwise."""
    library = native()
    unicorn = library.unicorn
    check_room(_CODE_CACHE)
    uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    uc.ctl_set_cpu_model(unicorn.x86_const.UC_CPU_X86_EPYC)
    uc.ctl_set_tcg_buffer_size(_CODE_CACHE)
    uc.mem_map(0, _PAGE)  # the CPU is made by the first use
    process = _Process()
    try:
        engine = int(uc._uch.value)
        cpu = process.word(engine + layout.UC_CPU)
        state = process.word(cpu + layout.CPU_ENV)
        for name, found, expected in (
            ("the CPU state behind the CPU", state, cpu + layout.CPU_TO_ENV),
            ("the engine behind the CPU", process.word(cpu + layout.CPU_UC), engine),
            ("the engine behind the translator", process.word(_translator(process, engine) + layout.TCG_UC), engine),
            ("the engine behind the CPU state", process.word(state + layout.ENV_UC), engine),
        ):
            if found != expected:
                raise _DoubtError(f"{name} is at {found:#x} and not at {expected:#x}")
        _prove_room(process, engine)
        for name, offset, size, value in _written(uc, unicorn.x86_const):
            found = process.word(state + offset, size)
            if found != value:
                place = f"offset {offset} of the CPU state"
                raise _DoubtError(f"{name} is not at {place} ({found:#x} instead of {value:#x})")
    except _DoubtError as doubt:
        raise _refuse(str(doubt)) from None
    finally:
        process.close()


# --- the behaviour --------------------------------------------------------------------------------------------------

_CODE, _COUNTER, _ABSENT, _TABLES = 0x1000, 0x2000, 0x4ABC, 0x6000
_PAGES = 16
_SEED, _ROUNDS, _PORT = 0x11223344, 50, 0x80
_PROGRAM = bytes.fromhex(
    "b844332211"  # mov eax, 0x11223344
    "a300200000"  # mov [0x2000], eax
    "ff0500200000"  # again: inc dword [0x2000]
    "49"  # dec ecx
    "75f7"  # jnz again
    "e480"  # in al, 0x80
    "8b1d10500000"  # mov ebx, [0x5010]
    "f00fc11d04200000"  # lock xadd [0x2004], ebx
    "a1bc4a0000"  # mov eax, [0x4abc]
)
_AGAIN, _AT_PORT, _AT_DEVICE, _AT_FAULT = _CODE + 10, _CODE + 19, _CODE + 21, _CODE + 35


def _guest(memory: memoryview) -> None:
    """User code in 32-bit paging: page 4 is absent, page 5 a device's."""
    memory[_CODE : _CODE + len(_PROGRAM)] = _PROGRAM
    memory[_TABLES : _TABLES + 4] = (_TABLES + _PAGE | 7).to_bytes(4, "little")
    for page in range(_PAGES):
        entry = {4: 0, 5: 0x80007}.get(page, page << 12 | 7)
        memory[_TABLES + _PAGE + 4 * page : _TABLES + _PAGE + 4 * page + 4] = entry.to_bytes(4, "little")


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise _DoubtError(f"a test guest went wrong: {what} is {found} instead of {expected}")


def _flushes(state: int) -> int:
    """How often Unicorn has flushed its TLB."""
    offsets = (layout.TLB_FULL_FLUSHES, layout.TLB_PART_FLUSHES, layout.TLB_ELIDED_FLUSHES)
    process = _Process()
    try:
        return sum(process.word(state + offset) for offset in offsets)
    finally:
        process.close()


def _probe() -> None:
    from hypervisor.arch.segments import Segment
    from hypervisor.engine import block as b
    from hypervisor.engine.coverage_memory import CoverageMemory
    from hypervisor.engine.frame_kernels import frame_kernels
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.engine.tables import GuestTables
    from hypervisor.memory.page_map import PageMap

    host = HostMemory(_PAGES * _PAGE, frame_kernels())
    pages = PageMap(host, _PAGES)
    memory = pages.lay_in_one_piece(_PAGES)
    _guest(memory)
    pcpu = PCpu(host, code_cache=_CODE_CACHE)
    tables = GuestTables(pages)
    tables.listen_exceptions = 1 << 14
    tables.coverage = coverage = CoverageMemory(noted=True)
    pcpu.bind(tables)
    vcpu = pcpu.new_vcpu()
    registers, words = vcpu.registers, pcpu.words
    pcpu.load(vcpu)
    registers.set_segment("cs", Segment(0x1B, 0, 0xFFFFFFFF, 0xCFB))
    for name in ("ss", "ds", "es", "fs", "gs"):
        registers.set_segment(name, Segment(0x23, 0, 0xFFFFFFFF, 0xCF3))
    for name, value in (
        ("cr0", 0x80010011), ("cr3", _TABLES), ("rip", _CODE), ("rcx", _ROUNDS), ("rflags", 0x3002), ("rsp", 0x4000),
    ):  # fmt: skip
        registers.set(name, value)
    seen: list[tuple[int, int, int]] = []

    def access(kind: int) -> int:
        seen.append((kind, words[b.X_INFO >> 3], registers.get("rip")))
        words[(b.X_INFO >> 3) + 3] = 0x5A
        return 0

    pcpu.on_access(access)
    pcpu.kick()
    _expect("the reason of a stop before the first instruction", pcpu.run(), ExitKind.DEADLINE)
    _expect("RIP after it", registers.get("rip"), _CODE)
    words[b.KICK >> 3] = 0
    stops = 0
    while True:
        words[b.NEXT >> 3] = words[b.DEADLINE >> 3] = words[b.NOW >> 3] + 1 + stops % 30
        kind = pcpu.run()
        if kind != ExitKind.DEADLINE:
            break
        stops += 1
    _expect("the exit", kind, ExitKind.EXCEPTION)
    exception = tuple(words[(b.X_INFO >> 3) + n] for n in range(3))
    _expect("the page fault (vector, error code, address)", exception, (14, 4, _ABSENT))
    _expect("RIP at the page fault", registers.get("rip"), _AT_FAULT)
    _expect("the privilege level", registers.cpl, 3)
    counter = int.from_bytes(memory[_COUNTER : _COUNTER + 4], "little")
    _expect("a counter that was stopped often", counter, _SEED + _ROUNDS)
    _expect("what a locked instruction wrote", memory[_COUNTER + 4], 0x5A)
    _expect("ECX", registers.get("rcx"), 0)
    _expect(
        "the accesses to ports and devices (kind, address, RIP)",
        seen,
        [(ExitKind.PORT_IN, _PORT, _AT_PORT), (ExitKind.MMIO_READ, 0x80010, _AT_DEVICE)],
    )
    _expect("how many blocks were counted", sum(coverage.edges), _ROUNDS + 1)
    _expect("which", list(coverage.blocks()), [_CODE, _AGAIN, _AT_PORT])
    _prove_operations(words[b.UC >> 3])
    _prove_jump_cache(words[b.UC >> 3], words[b.CPU >> 3])
    before = _flushes(words[b.ENV >> 3])
    _prove_sizes(words[b.ENV >> 3], used=True)
    pcpu.memory.flush()
    _prove_sizes(words[b.ENV >> 3], used=False)
    if _flushes(words[b.ENV >> 3]) <= before:
        raise _DoubtError("a flush of the TLB is not counted where it should be")
    if stops < _ROUNDS // 5:
        raise _DoubtError(f"a test guest stopped {stops} times where at least {_ROUNDS // 5} deadlines passed")
    pcpu.close()


@remember
def check() -> None:
    """`quick`, then prove on a guest that the engine behaves (some milliseconds); raise `EngineError` otherwise."""
    quick()
    try:
        _probe()
    except _DoubtError as doubt:
        raise _refuse(str(doubt)) from None
