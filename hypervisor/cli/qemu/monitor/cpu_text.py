"""A vCPU's registers as QEMU writes them: ``info registers``, and the blocks of ``-d int`` and ``-d cpu_reset``.

Source: QEMU 7.2, ``target/i386/cpu-dump.c``, as ``qemu-system-x86_64`` prints it.
"""

from __future__ import annotations

from typing import Any

from hypervisor.arch import flags, segments

_FLAGS = ((10, "D"), (11, "O"), (7, "S"), (6, "Z"), (4, "A"), (2, "P"), (0, "C"))
_SYSTEM_32 = (
    "Reserved", "TSS16-avl", "LDT", "TSS16-busy", "CallGate16", "TaskGate", "IntGate16", "TrapGate16",
    "Reserved", "TSS32-avl", "Reserved", "TSS32-busy", "CallGate32", "Reserved", "IntGate32", "TrapGate32",
)  # fmt: skip
_SYSTEM_64 = (
    "<hiword>", "Reserved", "LDT", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved",
    "Reserved", "TSS64-avl", "Reserved", "TSS64-busy", "CallGate64", "Reserved", "IntGate64", "TrapGate64",
)  # fmt: skip
_EMPTY = 3
"""What the tag word says of an x87 register that holds nothing."""


def dump(vcpu: Any, *, fpu: bool) -> str:
    """The registers, with those of the FPU and SSE if ``fpu``."""
    lines = [*_general(vcpu), *_system(vcpu)]
    return "\n".join([*lines, *_floating(vcpu)] if fpu else lines)


def _general(vcpu: Any) -> list[str]:
    wide = vcpu.mode == 64
    letter, width = ("R", 16) if wide else ("E", 8)
    mask = (1 << 4 * width) - 1
    rows = [[(letter + name, "r" + name.lower()) for name in names] for names in (("AX", "BX", "CX", "DX"),)]
    rows.append([(letter + name, "r" + name.lower()) for name in ("SI", "DI", "BP", "SP")])
    if wide:
        rows += [[(f"R{n}", f"r{n}") for n in range(start, start + 4)] for start in (8, 12)]
    lines = [" ".join(f"{shown:<3}={vcpu.get(name) & mask:0{width}x}" for shown, name in row) for row in rows]
    rflags = vcpu.rflags
    letters = "".join(letter if rflags >> bit & 1 else "-" for bit, letter in _FLAGS)
    halted = int(vcpu.activity == "halted")
    a20 = int(vcpu.vm.tables.a20 >> 20 & 1)
    lines.append(
        f"{letter}IP={vcpu.rip & mask:0{width}x} {letter}FL={rflags:08x} [{letters}] "
        f"CPL={vcpu.cpl} II=0 A20={a20} SMM=0 HLT={halted}"
    )
    return lines


def _system(vcpu: Any) -> list[str]:
    long = bool(vcpu.efer & flags.EFER_LMA)
    width = 16 if long else 8
    lines = [_segment(vcpu, name.upper(), getattr(vcpu, name), width) for name in ("es", "cs", "ss", "ds", "fs", "gs")]
    lines += [_segment(vcpu, "LDT", vcpu.ldtr, width), _segment(vcpu, "TR", vcpu.tr, width)]
    for name in ("gdtr", "idtr"):
        table = getattr(vcpu, name)
        lines.append(f"{name[:3].upper()}=     {table.base:0{width}x} {table.limit:08x}")
    lines.append(f"CR0={vcpu.cr0:08x} CR2={vcpu.cr2:0{width}x} CR3={vcpu.cr3:0{width}x} CR4={vcpu.cr4:08x}")
    lines.append("".join(f"DR{n}={vcpu.get(f'dr{n}'):016x} " for n in range(4)))
    lines.append(f"DR6={vcpu.dr6:016x} DR7={vcpu.dr7:016x}")
    lines.append(f"EFER={vcpu.efer:016x}")
    return lines


def _segment(vcpu: Any, name: str, segment: Any, width: int) -> str:
    attributes = segment.attributes
    granular = attributes & segments.GRANULAR
    upper_limit = segment.limit >> (28 if granular else 16) & 0xF
    descriptor = (attributes & 0xFF) << 8 | upper_limit << 16 | (attributes & 0xF00) << 12
    text = f"{name:<3}={segment.selector:04x} {segment.base:0{width}x} {segment.limit:08x} {descriptor:08x}"
    if not vcpu.cr0 & flags.CR0_PE or not attributes & segments.PRESENT:
        return text
    return f"{text} DPL={attributes >> segments.DPL_SHIFT & 3} {_kind(vcpu, attributes)}"


def _kind(vcpu: Any, attributes: int) -> str:
    long = bool(vcpu.efer & flags.EFER_LMA)
    if not attributes & segments.CODE_OR_DATA:
        return (_SYSTEM_64 if long else _SYSTEM_32)[attributes & 15]
    if attributes & segments.CODE:
        kind = "CS64" if attributes & segments.LONG else "CS32" if attributes & segments.BIG else "CS16"
        letters = "CR"
    else:
        kind = "DS  " if attributes & segments.BIG or long else "DS16"
        letters = "EW"
    shown = "".join(
        letter if attributes >> bit & 1 else "-" for bit, letter in zip((2, 1, 0), letters + "A", strict=True)
    )
    return f"{kind} [{shown}]"


def _floating(vcpu: Any) -> list[str]:
    x87 = vcpu.registers.x87
    top = x87.status >> 11 & 7
    valid = sum((x87.tags >> 2 * n & 3 != _EMPTY) << n for n in range(8))
    lines = [f"FCW={x87.control:04x} FSW={x87.status:04x} [ST={top}] FTW={valid:02x} MXCSR={x87.mxcsr:08x}"]
    values = [vcpu.registers.st(n - top & 7) for n in range(8)]
    lines += _pairs([f"FPR{n}={value & (1 << 64) - 1:016x} {value >> 64:04x}" for n, value in enumerate(values)])
    wide = [vcpu.registers.xmm(n) for n in range(16 if vcpu.mode == 64 else 8)]
    return lines + _pairs(
        [f"XMM{n:02}={value >> 64:016x} {value & (1 << 64) - 1:016x}" for n, value in enumerate(wide)]
    )


def _pairs(items: list[str]) -> list[str]:
    return [" ".join(items[n : n + 2]) for n in range(0, len(items), 2)]
