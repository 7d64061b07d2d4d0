"""Why a control register or an MSR refuses a value, as a sentence (AMD64 APM volume 2, 3.1 and appendix A)."""

from __future__ import annotations

from typing import Any

from hypervisor.arch import apic_registers as r
from hypervisor.arch import flags, msr

_MASK32 = (1 << 32) - 1


def msr_access(vcpu: Any, write: bool) -> str:
    """What is wrong with the RDMSR or WRMSR that the registers are set up for."""
    number = vcpu.get("rcx") & _MASK32
    value = (vcpu.get("rdx") & _MASK32) << 32 | vcpu.get("rax") & _MASK32
    if number in r.X2APIC_MSRS and number in msr.NAMES:
        return _x2apic(vcpu, number, value if write else None)
    known = msr.MSRS.get(number)
    if known is None:
        return f"there is no MSR {number:#x}"
    if not write:
        return f"{known.name} (MSR {number:#x}) cannot be read"
    why = "the value is not one that it can hold"
    if known.canonical and not msr.is_canonical(value):
        why = "it holds an address, and this one is not canonical"
    elif wrong := value & ~(known.writable | known.ignored) & msr.MASK64:
        why = _reserved(wrong)
    elif number == msr.APIC_BASE:
        why = "x2APIC mode (bit 10) is entered from xAPIC mode (bit 11 alone), and left by clearing both bits"
    elif number == msr.EFER:
        why = "LME cannot change while paging is on (CR0.PG)"
    return f"{known.name} (MSR {number:#x}) refuses {value:#x}: {why}"


def _x2apic(vcpu: Any, number: int, value: int | None) -> str:
    """What is wrong with reading a register of x2APIC mode, or with writing ``value``."""
    name, offset = f"{msr.NAMES[number]} (MSR {number:#x})", (number - r.X2APIC_MSRS.start) << 4
    if not vcpu.msr[msr.APIC_BASE] & msr.APIC_BASE_X2APIC:
        return f"{name} is there in x2APIC mode only (bit 10 of APIC_BASE)"
    if value is None:
        return f"{name} cannot be read"
    if offset not in r.X2APIC_WRITABLE:
        return f"{name} cannot be written"
    return f"{name} refuses {value:#x}: {_reserved(value & ~r.X2APIC_WRITABLE[offset])}"


def control_register(vcpu: Any, name: str, value: int) -> str:
    """What is wrong with a value for ``name`` (``cr0``, ``dr7``)."""
    return f"{name.upper()} refuses {value:#x}: {_REASONS.get(name, _upper_half)(vcpu, value)}"


def _cr0(vcpu: Any, value: int) -> str:
    if value >> 32:
        return _upper_half(vcpu, value)
    if value & flags.CR0_PG and not value & flags.CR0_PE:
        return "paging (PG) needs protected mode (PE)"
    if value & flags.CR0_NW and not value & flags.CR0_CD:
        return "NW needs CD"
    if not value & flags.CR0_PG:
        return "paging cannot be switched off in 64-bit code: go to 32-bit code first"
    if not vcpu.cr4 & flags.CR4_PAE:
        return "EFER.LME is set, so PG enters long mode, and that needs CR4.PAE, which is clear"
    return "PG enters long mode, and CS is a 64-bit segment already: it may become one only afterwards"


def _cr4(vcpu: Any, value: int) -> str:
    if wrong := value & ~flags.CR4_OFFERED:
        return _reserved(wrong)
    return "PAE cannot be switched off in long mode"


def _cr8(vcpu: Any, value: int) -> str:
    return "the task priority has four bits"


def _upper_half(vcpu: Any, value: int) -> str:
    return "bits 63 to 32 must be 0"


_REASONS = {"cr0": _cr0, "cr4": _cr4, "cr8": _cr8}


def _reserved(mask: int) -> str:
    """``bit 5 is``, ``bits 1 to 7 and 9 are`` reserved."""
    runs = []
    while mask:
        low = (mask & -mask).bit_length() - 1
        high = low
        while mask >> high + 1 & 1:
            high += 1
        runs += [f"{low} to {high}"] if high > low + 1 else [str(bit) for bit in range(low, high + 1)]
        mask &= ~((1 << high + 1) - 1)
    one = len(runs) == 1 and " " not in runs[0]
    bits = " and ".join(part for part in (", ".join(runs[:-1]), runs[-1]) if part)
    what = f"bit {bits} is" if one else f"bits {bits} are"
    return f"{what} reserved, or of a feature that CPUID does not offer"
