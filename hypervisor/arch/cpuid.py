"""CPUID as guests see it: an allow-list of what the engine really does.

The model is a server processor of AMD's family 17h (Zen 2) without vectors wider than SSE: every bit below names
something that the engine's translator executes, or that a built-in trap handler emulates. A bit that is not written
here is not offered. The numbers and names are those of AMD64 Architecture Programmer's Manual (APM) volume 3, appendix
E, "Obtaining Processor Information Via the CPUID Instruction"; the hypervisor leaves follow the convention of its
section on function 4000_0000h.

Two bits change while a guest runs, `OSXSAVE` and that of the local APIC, which tells whether APIC_BASE enables it (leaf
80000001h repeats it); everything else is constant for the life of a VM.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

TSC_HZ = 1_000_000_000
"""Ticks of the time-stamp counter per second: one tick is one nanosecond of the VM's clock."""

VENDOR = "AuthenticAMD"
"""Leaf 0: twelve characters, in EBX, EDX, ECX."""

HYPERVISOR_SIGNATURE = "RootModeHV  "
"""Leaf 40000000h: twelve characters, in EBX, ECX, EDX. Ours, so that no guest takes us for KVM, Xen or Hyper-V."""

BRAND = "Root-mode virtual CPU (AMD family 17h)"
"""Leaves 80000002h-80000004h: at most 47 characters and a NUL."""

FAMILY = 0x17
"""Zen. Older families make Linux touch chipset and errata MSRs that we would have to invent."""

MODEL = 0x31
"""Zen 2 server ("Rome"). Zen 1 models make Linux run a DIV at every return to user mode (its "DIV0" erratum)."""

STEPPING = 0

SIGNATURE = (FAMILY - 0xF) << 20 | MODEL >> 4 << 16 | 0xF << 8 | (MODEL & 0xF) << 4 | STEPPING
"""Leaf 1 EAX, and EDX after a reset: family, model and stepping (APM volume 3, function 0000_0001h)."""

PHYSICAL_BITS = 40
LINEAR_BITS = 48

XCR0_OFFERED = 0b11
"""x87 and SSE state. XSETBV cannot be trapped: the engine also takes bit 2 (AVX), which has no state to save."""

XSAVE_AREA_BYTES = 576
"""Legacy area (512) and XSAVE header (64): all that `XCR0_OFFERED` needs."""

_THREADS, _CORES = 1, 2  # levels of `LEAF_TOPOLOGY`

# Leaf numbers.
LEAF_VENDOR = 0x0
LEAF_FEATURES = 0x1
LEAF_POWER = 0x6
LEAF_EXTENDED_FEATURES = 0x7
LEAF_TOPOLOGY = 0xB
LEAF_XSAVE = 0xD
LEAF_TSC = 0x15
LEAF_HYPERVISOR = 0x4000_0000
LEAF_HYPERVISOR_TIMING = 0x4000_0010
LEAF_EXT_MAX = 0x8000_0000
LEAF_EXT_FEATURES = 0x8000_0001
LEAF_EXT_BRAND = 0x8000_0002
LEAF_EXT_L1 = 0x8000_0005
LEAF_EXT_L2 = 0x8000_0006
LEAF_EXT_POWER = 0x8000_0007
LEAF_EXT_SIZES = 0x8000_0008
LEAF_EXT_FEATURES_2 = 0x8000_0021

SUBLEAVES = frozenset({LEAF_EXTENDED_FEATURES, LEAF_TOPOLOGY, LEAF_XSAVE})
"""Leaves whose answer depends on ECX; the others ignore it."""

# Feature bits, by name, one table per register. The names are the kernel's and APM's common ones.
LEAF_1_EDX = {
    "fpu": 0,
    "de": 2,  # CR4.DE; every access to a debug register is emulated
    "pse": 3,
    "tsc": 4,
    "msr": 5,
    "pae": 6,
    "mce": 7,  # CR4.MCE is kept; no machine check ever comes
    "cx8": 8,
    "apic": 9,  # only on boards that have one
    "sep": 11,
    "mtrr": 12,  # the MSRs are kept; memory types have no effect
    "pge": 13,
    "mca": 14,  # without banks
    "cmov": 15,
    "pat": 16,  # the MSR is kept; memory types have no effect
    "pse36": 17,
    "clflush": 19,
    "mmx": 23,
    "fxsr": 24,
    "sse": 25,
    "sse2": 26,
    "htt": 28,  # only with more than one vCPU: EBX[23:16] is valid
}
LEAF_1_ECX = {
    "sse3": 0,
    "pclmulqdq": 1,
    "ssse3": 9,
    "cx16": 13,
    "sse4_1": 19,
    "sse4_2": 20,
    "x2apic": 21,  # with "apic"; stays when that is switched off
    "movbe": 22,
    "popcnt": 23,
    "aes": 25,
    "xsave": 26,
    "osxsave": 27,  # dynamic: follows CR4.OSXSAVE
    "rdrand": 30,  # emulated from the VM's seed, never the host's randomness
    "hypervisor": 31,
}
LEAF_6_EAX = {
    "arat": 2,  # the APIC timer never stops; offered with "apic"
}
LEAF_7_EBX = {
    "fsgsbase": 0,
    "tsc_adjust": 1,  # with the invariant TSC it tells Linux that no watchdog must compare the TSC with other clocks
    "bmi1": 3,  # VEX-encoded, and translated although AVX is not offered
    "smep": 7,
    "bmi2": 8,
    "rdseed": 18,  # emulated, as "rdrand" is
    "adx": 19,
    "smap": 20,
    "clflushopt": 23,
}
LEAF_D1_EAX = {
    "xsaveopt": 0,
    "xgetbv1": 2,
}
LEAF_80000001_EDX = {
    "syscall": 11,
    "nx": 20,
    "mmxext": 22,
    "pdpe1gb": 26,
    "rdtscp": 27,
    "lm": 29,
}
EDX_ALIASES = 0x0183_F3FF
"""Bits of leaf 1 EDX that AMD repeats in leaf 80000001h EDX (bit 11 differs: SYSENTER there, SYSCALL here)."""

LEAF_80000001_ECX = {
    "lahf_lm": 0,
    "cmp_legacy": 1,  # only with more than one vCPU
    "abm": 5,  # LZCNT
    "3dnowprefetch": 8,
}
LEAF_80000007_EDX = {
    "invariant_tsc": 8,
}
# An emulator does not speculate. Saying so spares guests their mitigations; each bit is a plain fact about the engine.
LEAF_80000008_EBX = {
    "ssb_no": 26,  # no speculative store bypass
    "btc_no": 29,  # no branch type confusion
}
LEAF_80000021_EAX = {
    "lfence_serializing": 2,
    "null_selector_clears_base": 6,
    "auto_ibrs": 8,  # EFER.AIBRSE may be set and has nothing to do
    "srso_no": 29,  # no speculative return stack overflow
}

NOT_OFFERED = {
    "vme": "virtual-8086 extensions: the engine delivers virtual-8086 interrupts the plain way",
    "ht topology, topoext": "one thread per core; leaves bh and 80000008h count the cores",
    "monitor": "MONITOR and MWAIT raise #UD; an idle guest uses HLT",
    "avx, avx2, f16c, fma, sha": "the engine raises #UD",
    "pcid, invpcid, la57, pku, umip": "not part of the software MMU",
    "tsc_deadline": "not part of the interrupt controllers",
    "erms, fsrm": "string moves run element by element here: REP MOVSB is the slowest way to copy",
    "svm, svm_lock, npt": "VMRUN and its kin raise #UD",
    "cr8_legacy": "MOV CR8 is a 64-bit instruction only; LOCK MOV CR0 is not decoded",
    "ffxsr, misalignsse, osvw, ibs, perfctr": "no model behind them",
    "clwb, clzero, rdpid, xsavec, xsaves": "the engine raises #UD",
    "sse4a": "the engine raises #UD: its translator gives EXTRQ and INSERTQ with immediates a wrong register",
    "3dnow, 3dnowext": "AMD removed them; the engine raises #UD",
}
"""What the engine or its peers know and we do not offer, with the reason (shown in docs/traps.md)."""

OSXSAVE = 1 << LEAF_1_ECX["osxsave"]
"""The bit of leaf 1 ECX that copies CR4.OSXSAVE. `leaves` leaves it clear, and whoever answers CPUID fills it in."""


class Answer(NamedTuple):
    """What CPUID returns for one leaf and subleaf."""

    eax: int
    ebx: int
    ecx: int
    edx: int


ZERO = Answer(0, 0, 0, 0)
Table = Mapping[tuple[int, int], Answer]
"""Answers by (leaf, subleaf)."""


@cache
def leaves(vcpus: int = 1, number: int = 0, *, apic: bool = True, apic_enabled: bool = True) -> Table:
    """Every non-zero answer, keyed by (leaf, subleaf); what is missing reads as four zeros.

    ``vcpus`` is the number of cores the guest is told about (1 to 255), ``number`` which of them asks (its initial APIC
    ID); ``apic`` says whether the board has a local APIC, ``apic_enabled`` whether the guest has left it on in the MSR
    APIC_BASE. `OSXSAVE` is clear. Source: APM volume 3, appendix E.
    """
    if not 1 <= vcpus <= 255:
        raise ValueError(f"{vcpus} vCPUs cannot be described by CPUID leaf 1, whose count has 8 bits (1 to 255).")
    smp = vcpus > 1
    without = frozenset(
        {"osxsave", *(() if apic else ("apic", "arat", "x2apic")), *(() if smp else ("htt", "cmp_legacy"))}
    )
    edx = _bits(LEAF_1_EDX, without if apic_enabled else without | {"apic"})
    brand = BRAND.encode().ljust(48, b"\0")
    id_bits = (vcpus - 1).bit_length()
    table = {
        (LEAF_VENDOR, 0): _text(LEAF_TSC, VENDOR, order="bdc"),
        # EBX: CLFLUSH line in units of 8 bytes (15:8), logical processors (23:16), initial APIC ID (31:24).
        (LEAF_FEATURES, 0): Answer(
            SIGNATURE, number << 24 | (vcpus << 16 if smp else 0) | 8 << 8, _bits(LEAF_1_ECX, without), edx
        ),
        (LEAF_POWER, 0): Answer(_bits(LEAF_6_EAX, without), 0, 0, 0),
        (LEAF_EXTENDED_FEATURES, 0): Answer(0, _bits(LEAF_7_EBX), 0, 0),
        (LEAF_XSAVE, 0): Answer(XCR0_OFFERED, XSAVE_AREA_BYTES, XSAVE_AREA_BYTES, 0),
        (LEAF_XSAVE, 1): Answer(_bits(LEAF_D1_EAX), 0, 0, 0),
        # TSC = crystal (ECX, Hz) * EBX / EAX. Intel's leaf: Linux ignores it on AMD and calibrates against the PIT.
        (LEAF_TSC, 0): Answer(1, 1, TSC_HZ, 0),
        (LEAF_HYPERVISOR, 0): _text(LEAF_HYPERVISOR_TIMING, HYPERVISOR_SIGNATURE, order="bcd"),
        # EAX: TSC in kHz, EBX: APIC bus in kHz; the convention that VMware began and FreeBSD, ACRN and others read.
        (LEAF_HYPERVISOR_TIMING, 0): Answer(TSC_HZ // 1000, TSC_HZ // 1000 if apic else 0, 0, 0),
        (LEAF_EXT_MAX, 0): _text(LEAF_EXT_FEATURES_2, VENDOR, order="bdc"),
        (LEAF_EXT_FEATURES, 0): Answer(
            SIGNATURE,
            0,
            _bits(LEAF_80000001_ECX, without),
            _bits(LEAF_80000001_EDX) | edx & EDX_ALIASES & ~(1 << 11),
        ),
        # 32 KiB 8-way L1 caches with 64-byte lines, 64 entries in each L1 TLB: the model's own.
        (LEAF_EXT_L1, 0): Answer(0xFF40_FF40, 0xFF40_FF40, 0x2008_0140, 0x2008_0140),
        # 512 KiB 8-way L2 with 64-byte lines; no L3, which is described through leaves that we do not offer.
        (LEAF_EXT_L2, 0): Answer(0, 0x4200_4200, 0x0200_6140, 0),
        (LEAF_EXT_POWER, 0): Answer(0, 0, 0, _bits(LEAF_80000007_EDX)),
        # ECX: cores - 1 (7:0), bits of the APIC id that number them (15:12).
        (LEAF_EXT_SIZES, 0): Answer(
            LINEAR_BITS << 8 | PHYSICAL_BITS, _bits(LEAF_80000008_EBX), id_bits << 12 | (vcpus - 1), 0
        ),
        (LEAF_EXT_FEATURES_2, 0): Answer(_bits(LEAF_80000021_EAX), 0, 0, 0),
    }
    if apic:  # each level's bits of the x2APIC id below the next one, processors, number and kind; the id in EDX
        table[LEAF_TOPOLOGY, 0] = Answer(0, 1, _THREADS << 8, number)
        table[LEAF_TOPOLOGY, 1] = Answer(id_bits, vcpus, _CORES << 8 | 1, number)
        table[LEAF_TOPOLOGY, 2] = Answer(0, 0, 2, number)  # there are no more
    for part in range(3):
        words = [int.from_bytes(brand[part * 16 + i : part * 16 + i + 4], "little") for i in (0, 4, 8, 12)]
        table[LEAF_EXT_BRAND + part, 0] = Answer(*words)
    return MappingProxyType(table)


def answer(table: Table, leaf: int, subleaf: int) -> Answer:
    """The answer of ``table`` for EAX = ``leaf``, ECX = ``subleaf``; zeros for what it does not hold.

    AMD processors answer an unknown leaf with zeros (Intel's repeat the highest basic leaf).
    """
    return table.get((leaf, subleaf if leaf in SUBLEAVES else 0), ZERO)


def _bits(names: dict[str, int], without: frozenset[str] = frozenset()) -> int:
    return sum(1 << bit for name, bit in names.items() if name not in without)


def _text(eax: int, text: str, *, order: str) -> Answer:
    """Twelve characters spread over EBX, ECX and EDX in the order given by their middle letters."""
    words = {register: int.from_bytes(text.encode()[4 * i : 4 * i + 4], "little") for i, register in enumerate(order)}
    return Answer(eax, words["b"], words["c"], words["d"])
