"""A vCPU's registers as text, in the width of the mode it runs in."""

from __future__ import annotations

from hypervisor.arch import flags, segments
from hypervisor.debug.disasm import code_bits
from hypervisor.debug.peeking import Segment, Vcpu

LEGACY = ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")
EXTENDED = tuple(f"r{n}" for n in range(8, 16))


def mode_name(vcpu: Vcpu) -> str:
    """The processor's mode in words, for example ``"64-bit long mode, CPL 0"``."""
    bits = code_bits(vcpu)
    if not vcpu.cr0 & flags.CR0_PE:
        return "real mode"
    if vcpu.rflags & flags.RFLAGS_VM:
        return "virtual-8086 mode"
    if bits == 64:
        kind = "64-bit long mode"
    elif vcpu.efer & flags.EFER_LMA:
        kind = f"{bits}-bit compatibility mode"
    else:
        paging = "paged" if vcpu.cr0 & flags.CR0_PG else "not paged"
        kind = f"{bits}-bit protected mode, {paging}"
    return f"{kind}, CPL {vcpu.cpl}"


def registers(vcpu: Vcpu) -> str:
    """General, segment, control and debug registers on about fifteen lines.

    16-bit code shows AX and its like, unless a general register's upper half is in use; real mode shows of the control
    registers what means something there.
    """
    bits = code_bits(vcpu)
    wide = bits == 64
    small = bits == 16 and not any(vcpu.get("r" + name) >> 16 & 0xFFFF for name in LEGACY)
    prefix, width = ("r", 16) if wide else ("", 4) if small else ("e", 8)
    mask = (1 << 4 * width) - 1
    general = [(prefix + name, vcpu.get("r" + name)) for name in LEGACY]
    general += [(name, vcpu.get(name)) for name in EXTENDED] if wide else []
    lines = [
        "  ".join(f"{name:>3} {value & mask:0{width}x}" for name, value in general[start : start + 4])
        for start in range(0, len(general), 4)
    ]
    rflags = vcpu.rflags
    iopl = (rflags & flags.RFLAGS_IOPL) >> flags.RFLAGS_IOPL_SHIFT
    lines.append(
        f"{prefix + 'ip':>3} {vcpu.rip & mask:0{width}x}  "
        f"{prefix}flags {rflags:08x} [{flags.names(rflags, flags.RFLAGS_NAMES)}] IOPL {iopl}"
    )
    width = max(width, 8)
    names = ("cs", "ss", "ds", "es", "fs", "gs")
    protected = vcpu.cr0 & flags.CR0_PE
    lines += [_segment(name, getattr(vcpu, name), width) for name in (*names, *(("tr", "ldtr") if protected else ()))]
    for name in ("gdtr", "idtr"):
        table = getattr(vcpu, name)
        lines.append(f"{name}      base {table.base:0{width}x} limit {table.limit:08x}")
    lines.append(f"cr0 {vcpu.cr0:08x} [{flags.names(vcpu.cr0, flags.CR0_NAMES)}]")
    if protected:
        lines.append(f"cr2 {vcpu.cr2:0{width}x}  cr3 {vcpu.cr3:0{width}x}")
        lines.append(f"cr4 {vcpu.cr4:08x} [{flags.names(vcpu.cr4, flags.CR4_NAMES)}]")
        lines.append(f"efer {vcpu.efer:08x} [{flags.names(vcpu.efer, flags.EFER_NAMES)}]")
    lines.append(f"dr6 {vcpu.dr6:08x}  dr7 {vcpu.dr7:08x}")
    return "\n".join(lines)


def _segment(name: str, segment: Segment, width: int) -> str:
    attributes = segment.attributes
    kind = "system"
    if attributes & segments.CODE_OR_DATA:
        code = attributes & segments.CODE
        bits = 64 if code and attributes & segments.LONG else 32 if attributes & segments.BIG else 16
        kind = f"{'code' if code else 'data'}{bits}"
    text = kind if attributes & segments.PRESENT else "not present"
    return (
        f"{name:<4} {segment.selector:04x} base {segment.base:0{width}x} limit {segment.limit:08x} "
        f"attributes {attributes:03x} ({text}, DPL {attributes >> segments.DPL_SHIFT & 3})"
    )
