"""Bits of the control, debug and flags registers, by name.

Plain integers, because compiled kernels use them too; `names` turns a value into words for reports. Sources: APM volume
2, sections 3.1 (CR0, CR4, EFER, RFLAGS) and 13.1.1 (DR6, DR7).
"""

from __future__ import annotations

# RFLAGS
RFLAGS_CF = 1 << 0
RFLAGS_FIXED = 1 << 1  # always one
RFLAGS_PF = 1 << 2
RFLAGS_AF = 1 << 4
RFLAGS_ZF = 1 << 6
RFLAGS_SF = 1 << 7
RFLAGS_TF = 1 << 8
RFLAGS_IF = 1 << 9
RFLAGS_DF = 1 << 10
RFLAGS_OF = 1 << 11
RFLAGS_IOPL_SHIFT = 12
RFLAGS_IOPL = 3 << RFLAGS_IOPL_SHIFT
RFLAGS_NT = 1 << 14
RFLAGS_RF = 1 << 16
RFLAGS_VM = 1 << 17
RFLAGS_AC = 1 << 18
RFLAGS_VIF = 1 << 19
RFLAGS_VIP = 1 << 20
RFLAGS_ID = 1 << 21
RFLAGS_LOADABLE = 0x3F_7FD5  # all but what is reserved

# CR0
CR0_PE = 1 << 0
CR0_MP = 1 << 1
CR0_EM = 1 << 2
CR0_TS = 1 << 3
CR0_ET = 1 << 4  # always one
CR0_NE = 1 << 5
CR0_WP = 1 << 16
CR0_AM = 1 << 18
CR0_NW = 1 << 29
CR0_CD = 1 << 30
CR0_PG = 1 << 31
CR0_RESET = CR0_ET | CR0_NW | CR0_CD  # 60000010h
CR0_DEFINED = (
    CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG
)  # of the low half, other bits are ignored; a set bit above 31 is #GP

# CR4
CR4_VME = 1 << 0
CR4_PVI = 1 << 1
CR4_TSD = 1 << 2
CR4_DE = 1 << 3
CR4_PSE = 1 << 4
CR4_PAE = 1 << 5
CR4_MCE = 1 << 6
CR4_PGE = 1 << 7
CR4_PCE = 1 << 8
CR4_OSFXSR = 1 << 9
CR4_OSXMMEXCPT = 1 << 10
CR4_UMIP = 1 << 11
CR4_LA57 = 1 << 12
CR4_FSGSBASE = 1 << 16
CR4_PCIDE = 1 << 17
CR4_OSXSAVE = 1 << 18
CR4_SMEP = 1 << 20
CR4_SMAP = 1 << 21
CR4_PKE = 1 << 22
CR4_OFFERED = (
    CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT
    | CR4_FSGSBASE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP
)  # what the features of `hypervisor.arch.cpuid` allow; any other bit is #GP  # fmt: skip

# EFER
EFER_SCE = 1 << 0
EFER_LME = 1 << 8
EFER_LMA = 1 << 10
EFER_NXE = 1 << 11
EFER_SVME = 1 << 12
EFER_LMSLE = 1 << 13
EFER_FFXSR = 1 << 14
EFER_TCE = 1 << 15
EFER_AIBRSE = 1 << 21
EFER_OFFERED = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_AIBRSE  # any other bit is #GP

# DR6
DR6_B0 = 1 << 0
DR6_B1 = 1 << 1
DR6_B2 = 1 << 2
DR6_B3 = 1 << 3
DR6_BD = 1 << 13
DR6_BS = 1 << 14
DR6_BT = 1 << 15
DR6_RESET = 0xFFFF_0FF0
DR6_WRITABLE = 0xF | DR6_BD | DR6_BS | DR6_BT

# DR7
DR7_ENABLES = 0xFF  # L0, G0 to L3, G3
DR7_GD = 1 << 13
DR7_RESET = 0x0000_0400
DR7_WRITABLE = 0xFFFF_23FF  # bits 10 (one), 11, 12, 14 and 15 (zero) are fixed

RFLAGS_NAMES = {
    "CF": RFLAGS_CF, "PF": RFLAGS_PF, "AF": RFLAGS_AF, "ZF": RFLAGS_ZF,
    "SF": RFLAGS_SF, "TF": RFLAGS_TF, "IF": RFLAGS_IF,
    "DF": RFLAGS_DF, "OF": RFLAGS_OF, "NT": RFLAGS_NT, "RF": RFLAGS_RF,
    "VM": RFLAGS_VM, "AC": RFLAGS_AC, "VIF": RFLAGS_VIF,
    "VIP": RFLAGS_VIP, "ID": RFLAGS_ID,
}  # fmt: skip
CR0_NAMES = {
    "PE": CR0_PE, "MP": CR0_MP, "EM": CR0_EM, "TS": CR0_TS, "ET": CR0_ET, "NE": CR0_NE, "WP": CR0_WP, "AM": CR0_AM,
    "NW": CR0_NW, "CD": CR0_CD, "PG": CR0_PG,
}  # fmt: skip
CR4_NAMES = {
    "VME": CR4_VME, "PVI": CR4_PVI, "TSD": CR4_TSD, "DE": CR4_DE, "PSE": CR4_PSE, "PAE": CR4_PAE, "MCE": CR4_MCE,
    "PGE": CR4_PGE, "PCE": CR4_PCE, "OSFXSR": CR4_OSFXSR, "OSXMMEXCPT": CR4_OSXMMEXCPT,
    "UMIP": CR4_UMIP, "LA57": CR4_LA57,
    "FSGSBASE": CR4_FSGSBASE, "PCIDE": CR4_PCIDE, "OSXSAVE": CR4_OSXSAVE, "SMEP": CR4_SMEP,
    "SMAP": CR4_SMAP, "PKE": CR4_PKE,
}  # fmt: skip
EFER_NAMES = {
    "SCE": EFER_SCE, "LME": EFER_LME, "LMA": EFER_LMA, "NXE": EFER_NXE, "SVME": EFER_SVME, "LMSLE": EFER_LMSLE,
    "FFXSR": EFER_FFXSR, "TCE": EFER_TCE, "AIBRSE": EFER_AIBRSE,
}  # fmt: skip
MXCSR_NAMES = {
    **{name: 1 << n for n, name in enumerate(("IE", "DE", "ZE", "OE", "UE", "PE", "DAZ"))},
    **{name: 1 << n for n, name in enumerate(("IM", "DM", "ZM", "OM", "UM", "PM"), 7)},
    "FZ": 1 << 15,
}
"""APM volume 1, 4.2.2, without the rounding control."""
PAGE_FAULT_NAMES = {"P": 1 << 0, "W": 1 << 1, "U": 1 << 2, "RSVD": 1 << 3, "I": 1 << 4}
"""Bits of #PF's error code (APM volume 2, section 8.4.2): present, write, user, reserved bit, instruction fetch."""


def names(value: int, table: dict[str, int]) -> str:
    """The set bits of ``value`` that ``table`` names, separated by spaces, lowest first: ``"PE WP PG"``."""
    return " ".join(name for name, bit in table.items() if value & bit)
