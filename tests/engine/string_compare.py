"""PCMPESTRI, PCMPESTRM, PCMPISTRI and PCMPISTRM by the manual, beside the kernel and beside this machine's processor.

The oracle follows Intel's SDM volume 2, 4.1 (AMD64 APM volume 4 has the same): all comparisons first, then what
invalid elements make of them, then the aggregation. ``python -m tests.engine.string_compare processor`` compares it
with this machine's processor, ``... kernel`` with our kernel in the form of HYPERVISOR_KERNELS: all immediates with
operands and lengths by a seed.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from hypervisor.engine import layout
from hypervisor.engine.inside import COMPILED

FORMS = {0x60: "pcmpestrm", 0x61: "pcmpestri", 0x62: "pcmpistrm", 0x63: "pcmpistri"}
CF, PF, AF, ZF, SF, OF = 0x001, 0x004, 0x010, 0x040, 0x080, 0x800
_EXTREMES = (0, 1, 7, 8, 9, 15, 16, 17, 0x7F, 0x80, 0x7FFFFFFF, 0x80000000, 0x80000001, 0x100000000, 0x180000000,
             (1 << 63) - 1, 1 << 63, (1 << 63) + 1)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One instruction and what it works on."""

    opcode: int
    immediate: int
    wide: bool
    """Whether it has REX.W."""
    first: bytes
    second: bytes
    rax: int
    rdx: int

    def code(self, operand: bytes = b"\xca") -> bytes:
        """The instruction, with XMM1 and XMM2, or another ModRM."""
        return b"\x66" + b"\x48" * self.wide + bytes((0x0F, 0x3A, self.opcode)) + operand + bytes((self.immediate,))


@dataclass(frozen=True)
class Result:
    """ECX or XMM0, whichever it writes, and the arithmetic flags."""

    value: int
    flags: int


def random_length(random: Random) -> int:
    """A length register: small, extreme, or anything."""
    value = random.choice((random.randrange(20), random.choice(_EXTREMES), random.getrandbits(64)))
    return -value & (1 << 64) - 1 if random.random() < 0.4 else value


def _string(random: Random, letters: bytes) -> bytes:
    return bytes(random.choice(letters) for _ in range(16))


def random_case(random: Random, opcode: int, immediate: int, wide: bool) -> Case:
    """A case in which matches, ends and ranges are likely."""
    letters = random.choice((b"ab", b"abc\0", b"\x00\x01\x7f\x80\xff", random.randbytes(6)))
    first, second = _string(random, letters), _string(random, letters)
    if random.random() < 0.5:  # a part of the second in the first, and perhaps beyond its end
        n = random.randrange(16)
        first = (second[n:] + first)[:16]
    if random.random() < 0.3:
        first = first[: random.randrange(16)].ljust(16, b"\0")
    if random.random() < 0.3:
        second = second[: random.randrange(16)].ljust(16, b"\0")
    return Case(opcode, immediate, wide, first, second, random_length(random), random_length(random))


def _elements(data: bytes, immediate: int) -> list[int]:
    size = 2 if immediate & 1 else 1
    signed = bool(immediate & 2)
    return [int.from_bytes(data[n : n + size], "little", signed=signed) for n in range(0, 16, size)]


def _valid(case: Case, elements: list[int], register: int) -> list[bool]:
    count = len(elements)
    if case.opcode & 2:
        length = elements.index(0) if 0 in elements else count
    else:
        bits = 64 if case.wide else 32
        register &= (1 << bits) - 1
        length = min(abs(register - (register >> bits - 1 << bits)), count)
    return [n < length for n in range(count)]


def oracle(case: Case) -> Result:
    """What the manual says."""
    immediate = case.immediate
    first, second = _elements(case.first, immediate), _elements(case.second, immediate)
    valid1, valid2 = _valid(case, first, case.rax), _valid(case, second, case.rdx)
    everything = range(len(first))
    how = ("any", "ranges", "each", "ordered")[immediate >> 2 & 3]

    def compared(j: int, i: int) -> bool:
        """BoolRes[j, i]: element j of the second operand against element i of the first."""
        if valid1[i] and valid2[j]:
            if how == "ranges":
                return first[i] <= second[j] if i % 2 == 0 else first[i] >= second[j]
            return first[i] == second[j]
        if how in ("any", "ranges"):
            return False
        if how == "each":
            return not valid1[i] and not valid2[j]
        return not valid1[i]

    def aggregated(j: int) -> bool:
        if how == "any":
            return any(compared(j, i) for i in everything)
        if how == "ranges":
            return any(compared(j, i) and compared(j, i + 1) for i in everything[::2])
        if how == "each":
            return compared(j, j)
        return all(compared(j + i, i) for i in everything if j + i in everything)

    found = [aggregated(j) for j in everything]
    if immediate & 0x10:
        found = [not bit if valid2[j] or not immediate & 0x20 else bit for j, bit in enumerate(found)]
    flags = CF * any(found) | ZF * (not all(valid2)) | SF * (not all(valid1)) | OF * found[0]
    where = [j for j in everything if found[j]]
    if case.opcode & 1:
        return Result((where[-1] if immediate & 0x40 else where[0]) if where else len(found), flags)
    width = (128 // len(found)) if immediate & 0x40 else 1
    return Result(sum(((1 << width) - 1) << width * j for j in where), flags)


ROW = 96
"""Bytes of a case and its result as machine code has them at RDI: two operands, RAX, RDX, XMM0, RCX, RFLAGS, and RAX
and RDX again, after it."""


def row(case: Case) -> bytes:
    """A case before it is run."""
    operands = case.rax.to_bytes(8, "little") + case.rdx.to_bytes(8, "little")
    return (case.first + case.second + operands).ljust(ROW, b"\0")


def machine_code(case: Case, operand: bytes = b"\xca") -> bytes:
    """Run the case in the row at RDI."""
    before = bytes.fromhex("f30f6f0f f30f6f5710 488b4720 488b5728 660fefc0 31c9")
    return before + case.code(operand) + bytes.fromhex("9c 4158 f30f7f4730 48894f40 4c894748 48894750 48895758")


def read(case: Case, row: bytes) -> Result:
    """The result in a row. RAX and RDX must be what they were."""
    assert row[80:96] == row[32:48], case
    mask, index, flags = (int.from_bytes(row[a:b], "little") for a, b in ((48, 64), (64, 72), (72, 80)))
    return Result(index if case.opcode & 1 else mask, flags & (CF | PF | AF | ZF | SF | OF))


def by_processor(case: Case) -> Result:
    """As this machine's processor executes it."""
    data = (ctypes.c_char * ROW)(*row(case))
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code = machine_code(case) + b"\xc3"
    page[: len(code)] = code
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(page)))(ctypes.addressof(data))
    return read(case, data.raw)


def by_kernel(case: Case) -> Result:
    """As our kernel has it."""
    state = (ctypes.c_uint8 * layout.STATE_SIZE)()
    env = ctypes.addressof(state)
    operands = [env + layout.XMM + 64 * n for n in (1, 2)]
    for at, value in zip(operands, (case.first, case.second), strict=True):
        ctypes.memmove(at, value, 16)
    registers = (ctypes.c_uint64 * 3).from_address(env + layout.REGS)
    registers[0], registers[2] = case.rax, case.rdx
    control = case.immediate | case.wide << 8
    if COMPILED:
        from hypervisor.engine.compiling.compiler import code

        code().call[FORMS[case.opcode]](env, *operands, control)
    else:
        from hypervisor.engine.kernels.instructions.string_compare import compare_strings

        compare_strings(env, *operands, control, case.opcode & 3)
    assert (registers[0], registers[2]) == (case.rax, case.rdx)
    mask = int.from_bytes(ctypes.string_at(env + layout.XMM, 16), "little")
    flags = ctypes.c_uint64.from_address(env + layout.CC_SRC).value
    return Result(registers[1] if case.opcode & 1 else mask, flags)


def cases(seed: int, each: int) -> list[Case]:
    """Every form, immediate and REX.W with ``each`` operands."""
    random = Random(seed)
    return [
        random_case(random, opcode, immediate, wide)
        for opcode in FORMS
        for immediate in range(256)
        for wide in (False, True)
        for _ in range(each)
    ]


def main(who: str, seed: int = 1, each: int = 20) -> int:
    """Compare the oracle with the processor or the kernel."""
    other: Callable[[Case], Result] = {"processor": by_processor, "kernel": by_kernel}[who]
    everything = cases(seed, each)
    wrong = [case for case in everything if oracle(case) != other(case)]
    for case in wrong[:20]:
        print(case, oracle(case), other(case))
    print(f"{len(everything)} cases, {len(wrong)} differ from the {who}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
