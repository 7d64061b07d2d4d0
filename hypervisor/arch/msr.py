"""Model-specific registers: which exist, what they hold at reset, and what a WRMSR may store.

An MSR that is not in `MSRS` raises #GP(0) on RDMSR and WRMSR, unless a trap handler answers. The list is what CPUID
promises (`hypervisor.arch.cpuid`) plus the few registers of AMD's family 17h that kernels touch without asking first.
Numbers and layouts: APM volume 2, appendix A, and the Processor Programming Reference (PPR) of family 17h for
C001_xxxxh.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from hypervisor.arch import flags
from hypervisor.arch.address_map import FOUR_GIB, PCI_HOLE
from hypervisor.arch.apic_registers import REGISTERS, SELF_IPI, X2APIC_MSRS, X2APIC_READABLE, X2APIC_WRITABLE
from hypervisor.arch.cpuid import PHYSICAL_BITS
from hypervisor.arch.device_registers import Register

# Numbers.
TSC = 0x10
TSC_ADJUST = 0x3B
APIC_BASE = 0x1B
PATCH_LEVEL = 0x8B
MTRR_CAP = 0xFE
SYSENTER_CS = 0x174
SYSENTER_ESP = 0x175
SYSENTER_EIP = 0x176
MCG_CAP, MCG_STATUS = 0x179, 0x17A
DEBUGCTL = 0x1D9
MTRR_BASE0, MTRR_MASK0 = 0x200, 0x201
MTRR_FIX64K, MTRR_FIX16K, MTRR_FIX4K = (0x250,), (0x258, 0x259), tuple(range(0x268, 0x270))
PAT = 0x277
MTRR_DEF_TYPE = 0x2FF
EFER = 0xC000_0080
STAR = 0xC000_0081
LSTAR = 0xC000_0082
CSTAR = 0xC000_0083
SFMASK = 0xC000_0084
FS_BASE = 0xC000_0100
GS_BASE = 0xC000_0101
KERNEL_GS_BASE = 0xC000_0102
TSC_AUX = 0xC000_0103
PERF_CTL0 = 0xC001_0000
PERF_CTR0 = 0xC001_0004
SYSCFG = 0xC001_0010
HWCR = 0xC001_0015
NB_CFG = 0xC001_001F
PSTATE0 = 0xC001_0064
DE_CFG = 0xC001_1029

MASK64 = (1 << 64) - 1

APIC_BASE_RESET = 0xFEE0_0000
APIC_BASE_BSP = 1 << 8
APIC_BASE_X2APIC = 1 << 10
APIC_BASE_ENABLE = 1 << 11
APIC_BASE_ADDRESS = ((1 << PHYSICAL_BITS) - 1) & ~0xFFF

PAT_RESET = 0x0007_0406_0007_0406
PAT_TYPES = frozenset({0, 1, 4, 5, 6, 7})
"""Memory types that a byte of `PAT` may hold: UC, WC, WT, WP, WB, UC- (APM volume 2, section 7.8.1)."""

MTRR_PAIRS = 8
MTRR_CAPABILITIES = 1 << 10 | 1 << 8 | MTRR_PAIRS
"""Write combining, ranges of fixed size, and so many pairs of registers for others (APM volume 2, section 7.7.1)."""
MTRR_TYPES = frozenset({0, 1, 4, 5, 6})
"""Memory types of the MTRRs: UC, WC, WT, WP, WB."""
MTRR_ENABLED = 1 << 11 | 1 << 10
"""In MTRR_DEF_TYPE: all of them, and those of fixed size."""
MTRR_VALID = 1 << 11
"""In a mask: the pair is used."""
_UNCACHEABLE, _WRITE_PROTECTED, _WRITE_BACK = 0, 5, 6


class Home(Enum):
    """Where a register's value lives."""

    ENGINE = "engine"
    """In the CPU state that runs: the engine reads and writes it in place."""
    VCPU = "vcpu"
    """Beside the CPU state, one value per vCPU: nothing that runs uses it."""
    CLOCK = "clock"
    """Computed from the VM's clock and an offset per vCPU."""
    CONSTANT = "constant"
    """The reset value, always; a write is taken and forgotten."""


@dataclass(frozen=True, slots=True)
class Msr:
    """One register. `checked` says what a WRMSR stores."""

    number: int
    name: str
    home: Home
    reset: int = 0
    writable: int = MASK64
    """Bits that a write may change; the others keep their value."""
    ignored: int = 0
    """Bits that a write may set without effect. A set bit that is neither writable nor ignored raises #GP."""
    canonical: bool = False
    """The value is a linear address: bits 63:47 must be equal."""
    types: frozenset[int] = frozenset()
    """Memory types that its low bytes may hold, as many as `typed` says."""
    typed: int = 0
    note: str = ""

    def checked(self, old: int, new: int) -> int | None:
        """The value after WRMSR of ``new`` (64 bits) over ``old``, or None where the processor raises #GP(0)."""
        if self.home is Home.CONSTANT:
            return self.reset
        if new & ~(self.writable | self.ignored) & MASK64 or not self.writable:
            return None
        if self.canonical and not is_canonical(new):
            return None
        if any(byte not in self.types for byte in new.to_bytes(8, "little")[: self.typed]):
            return None
        return old & ~self.writable | new & self.writable


def is_canonical(address: int) -> bool:
    """Whether bits 63:47 of a 64-bit linear address are equal (APM volume 2, section 1.1.3)."""
    return (address >> 47) in (0, 0x1_FFFF)


def efer_after(old: int, new: int, paging: bool) -> int | None:
    """EFER after WRMSR of ``new``, or None for #GP(0).

    LMA is the processor's own and keeps its value; LME cannot change while ``paging`` (CR0.PG) is on. APM volume 2,
    section 3.1.7.
    """
    if new & ~flags.EFER_OFFERED & MASK64:
        return None
    if paging and (old ^ new) & flags.EFER_LME:
        return None
    return new & ~flags.EFER_LMA | old & flags.EFER_LMA


def apic_base_after(old: int, new: int, offered: bool = True) -> int | None:
    """APIC_BASE after WRMSR of ``new``, or None for #GP(0); ``offered`` says whether there is a local APIC, and with it
    x2APIC mode. That mode is entered from xAPIC mode, and left by disabling the APIC. SDM volume 3A, figure 10-27; APM
    volume 2, 16.9.
    """
    value = MSRS[APIC_BASE].checked(old, new)
    if value is None or not value & APIC_BASE_X2APIC:
        return None if value is None or (old & APIC_BASE_X2APIC and value & APIC_BASE_ENABLE) else value
    return value if offered and value & old & APIC_BASE_ENABLE else None


def _mtrrs() -> Iterator[Msr]:
    """The memory type range registers (APM volume 2, section 7.7), with what firmware leaves in them: they are kept and
    checked, and have no effect. Kernels for 64 bits take them for granted: Xen reads MTRR_CAP unasked.
    """
    address = APIC_BASE_ADDRESS
    yield Msr(MTRR_CAP, "MTRR_CAP", Home.VCPU, MTRR_CAPABILITIES, writable=0)
    for pair in range(MTRR_PAIRS):
        base, size = (PCI_HOLE, FOUR_GIB - PCI_HOLE) if pair == 0 else (0, 0)  # what firmware makes uncacheable
        mask = (-size & address | MTRR_VALID) if size else 0
        yield Msr(
            MTRR_BASE0 + 2 * pair, f"MTRR_BASE{pair}", Home.VCPU, base | _UNCACHEABLE, writable=address | 0xFF,
            types=MTRR_TYPES, typed=1,
        )  # fmt: skip
        yield Msr(MTRR_MASK0 + 2 * pair, f"MTRR_MASK{pair}", Home.VCPU, mask, writable=address | MTRR_VALID)
    # Up to 640 KiB memory, then the display's window, then ROMs.
    kinds = {number: _WRITE_BACK for number in (*MTRR_FIX64K, MTRR_FIX16K[0])}
    kinds |= {MTRR_FIX16K[1]: _UNCACHEABLE} | dict.fromkeys(MTRR_FIX4K, _WRITE_PROTECTED)
    for number, kind in kinds.items():
        yield Msr(
            number, f"MTRR_FIX_{number:X}", Home.VCPU, int.from_bytes(bytes([kind]) * 8, "little"),
            types=MTRR_TYPES, typed=8,
        )  # fmt: skip
    yield Msr(
        MTRR_DEF_TYPE, "MTRR_DEF_TYPE", Home.VCPU, MTRR_ENABLED | _WRITE_BACK, writable=MTRR_ENABLED | 0xFF,
        types=MTRR_TYPES, typed=1,
    )  # fmt: skip


_ENGINE, _VCPU, _CLOCK, _CONSTANT = Home.ENGINE, Home.VCPU, Home.CLOCK, Home.CONSTANT

_LIST = (
    Msr(TSC, "TSC", _CLOCK, note="a write moves this vCPU's offset"),
    Msr(TSC_ADJUST, "TSC_ADJUST", _CLOCK, note="this vCPU's offset itself"),
    Msr(
        APIC_BASE, "APIC_BASE", _VCPU, APIC_BASE_RESET | APIC_BASE_BSP | APIC_BASE_ENABLE,
        writable=APIC_BASE_ENABLE | APIC_BASE_X2APIC | APIC_BASE_ADDRESS, ignored=APIC_BASE_BSP,
        note="exists with the CPUID feature apic; bit 8 is set on vCPU 0 only",
    ),
    Msr(PATCH_LEVEL, "PATCH_LEVEL", _CONSTANT, note="no microcode patch; Intel's loaders write it"),
    Msr(SYSENTER_CS, "SYSENTER_CS", _ENGINE, writable=0xFFFF_FFFF, ignored=MASK64),
    Msr(SYSENTER_ESP, "SYSENTER_ESP", _ENGINE, canonical=True),
    Msr(SYSENTER_EIP, "SYSENTER_EIP", _ENGINE, canonical=True),
    Msr(MCG_CAP, "MCG_CAP", _CONSTANT, note="no machine-check banks"),
    Msr(MCG_STATUS, "MCG_STATUS", _VCPU, writable=7),
    Msr(DEBUGCTL, "DEBUGCTL", _CONSTANT, note="no branch recording; Linux writes it for single-stepped branches"),
    Msr(PAT, "PAT", _VCPU, PAT_RESET, types=PAT_TYPES, typed=8, note="kept and checked; memory types have no effect"),
    *_mtrrs(),
    Msr(EFER, "EFER", _ENGINE, writable=flags.EFER_OFFERED & ~flags.EFER_LMA, ignored=flags.EFER_LMA),
    Msr(STAR, "STAR", _ENGINE),
    Msr(LSTAR, "LSTAR", _ENGINE, canonical=True),
    Msr(CSTAR, "CSTAR", _ENGINE, canonical=True),
    Msr(SFMASK, "SFMASK", _ENGINE, writable=0xFFFF_FFFF, ignored=MASK64),
    Msr(FS_BASE, "FS_BASE", _ENGINE, canonical=True),
    Msr(GS_BASE, "GS_BASE", _ENGINE, canonical=True),
    Msr(KERNEL_GS_BASE, "KERNEL_GS_BASE", _ENGINE, canonical=True),
    Msr(TSC_AUX, "TSC_AUX", _VCPU, writable=0xFFFF_FFFF, ignored=MASK64, note="RDTSCP returns it in ECX"),
    *(Msr(PERF_CTL0 + n, f"PERF_CTL{n}", _CONSTANT, note="no counters, and no CPUID bit to say so") for n in range(4)),
    *(Msr(PERF_CTR0 + n, f"PERF_CTR{n}", _CONSTANT) for n in range(4)),
    Msr(SYSCFG, "SYSCFG", _CONSTANT, note="no MTRR extensions, no memory encryption"),
    Msr(HWCR, "HWCR", _CONSTANT, 1 << 24, note="TscFreqSel: the TSC counts at P0's frequency (Linux wants it)"),
    Msr(NB_CFG, "NB_CFG", _CONSTANT, note="Linux sets bit 46 (extended configuration space) unasked"),
    # 1 GHz = 200 MHz * FID (7:0) / DID (13:8): OpenBSD reads its TSC frequency here when HWCR.TscFreqSel is set.
    Msr(PSTATE0, "PSTATE0", _CONSTANT, 1 << 63 | 8 << 8 | 40, note="P-state 0: 1 GHz"),
    Msr(DE_CFG, "DE_CFG", _CONSTANT, 1 << 1, note="LFENCE is serialising; Linux and FreeBSD would set the bit"),
)  # fmt: skip

MSRS: dict[int, Msr] = {msr.number: msr for msr in _LIST}
"""Every register that exists, by number."""

NAMES: dict[int, str] = {msr.number: msr.name for msr in _LIST} | {
    X2APIC_MSRS.start + (register.offset >> 4): f"X2APIC_{register.name.removesuffix('_LOW')}"
    for register in (*REGISTERS, Register(SELF_IPI, "SELF_IPI", "w", ""))
    if register.offset in X2APIC_READABLE or register.offset in X2APIC_WRITABLE
}
