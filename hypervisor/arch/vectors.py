"""Exception vectors: APM volume 2, table 8-1 and 8.2; classes for double faults from 8.2.9."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Severity(Enum):
    """How an exception combines with one that happens while it is delivered (APM volume 2, 8.2.9)."""

    BENIGN = "benign"
    CONTRIBUTORY = "contributory"
    PAGE_FAULT = "page fault"


class ExceptionType(Enum):
    """Which instruction the saved RIP points at (APM volume 2, 8.1.3)."""

    FAULT = "fault"  # the one that caused it
    TRAP = "trap"  # the next one
    ABORT = "abort"  # not reliable
    FAULT_OR_TRAP = "fault or trap"  # depends on the cause
    INTERRUPT = "interrupt"  # not an exception


class Vector(NamedTuple):
    """One vector below 32: number, mnemonic, name, severity, type, and whether an error code is pushed."""

    number: int
    mnemonic: str
    name: str
    severity: Severity
    type: ExceptionType
    has_error_code: bool


DE, DB, NMI, BP, OF, BR, UD, NM, DF = range(9)
TS, NP, SS, GP, PF = range(10, 15)
MF, AC, MC, XF, VE, CP = range(16, 22)
HV, VC, SX = 28, 29, 30

_BENIGN, _CONTRIBUTORY = Severity.BENIGN, Severity.CONTRIBUTORY
_FAULT, _TRAP, _ABORT = ExceptionType.FAULT, ExceptionType.TRAP, ExceptionType.ABORT

VECTORS: dict[int, Vector] = {
    row[0]: Vector(*row)
    for row in (
        (DE, "#DE", "divide error", _CONTRIBUTORY, _FAULT, False),
        (DB, "#DB", "debug", _BENIGN, ExceptionType.FAULT_OR_TRAP, False),
        (NMI, "NMI", "non-maskable interrupt", _BENIGN, ExceptionType.INTERRUPT, False),
        (BP, "#BP", "breakpoint", _BENIGN, _TRAP, False),
        (OF, "#OF", "overflow", _BENIGN, _TRAP, False),
        (BR, "#BR", "bound range", _BENIGN, _FAULT, False),
        (UD, "#UD", "invalid opcode", _BENIGN, _FAULT, False),
        (NM, "#NM", "device not available", _BENIGN, _FAULT, False),
        (DF, "#DF", "double fault", _BENIGN, _ABORT, True),
        (9, "", "coprocessor segment overrun", _BENIGN, _ABORT, False),
        (TS, "#TS", "invalid TSS", _CONTRIBUTORY, _FAULT, True),
        (NP, "#NP", "segment not present", _CONTRIBUTORY, _FAULT, True),
        (SS, "#SS", "stack", _CONTRIBUTORY, _FAULT, True),
        (GP, "#GP", "general protection", _CONTRIBUTORY, _FAULT, True),
        (PF, "#PF", "page fault", Severity.PAGE_FAULT, _FAULT, True),
        (MF, "#MF", "x87 floating point", _BENIGN, _FAULT, False),
        (AC, "#AC", "alignment check", _BENIGN, _FAULT, True),
        (MC, "#MC", "machine check", _BENIGN, _ABORT, False),
        (XF, "#XF", "SIMD floating point", _BENIGN, _FAULT, False),
        (VE, "#VE", "virtualization (Intel)", Severity.PAGE_FAULT, _FAULT, False),
        (CP, "#CP", "control protection", _CONTRIBUTORY, _FAULT, True),
        (HV, "#HV", "hypervisor injection", _BENIGN, _TRAP, False),
        (VC, "#VC", "VMM communication", _CONTRIBUTORY, _FAULT, True),
        (SX, "#SX", "security", _BENIGN, _FAULT, True),
    )
}
"""By number. A fault while #DF is delivered is a shutdown, which no class expresses."""

ERROR_CODE_VECTORS = frozenset(number for number, vector in VECTORS.items() if vector.has_error_code)
FAULT_VECTORS = frozenset(number for number, vector in VECTORS.items() if vector.type is ExceptionType.FAULT)
"""Their pushed RFLAGS image has RF set; #DB may be a fault too (instruction breakpoints), and pushes RF clear."""


def title(vector: int) -> str:
    """A vector as reports name it, ``#PF page fault``; empty for one without a meaning of its own."""
    known = VECTORS.get(vector)
    return f"{known.mnemonic} {known.name}".strip() if known is not None else ""


# Selector error code (APM volume 2, 8.4.1): bits 15:3 are the selector index.
SELECTOR_EXT = 1 << 0
SELECTOR_IDT = 1 << 1
SELECTOR_TI = 1 << 2

# Page-fault error code (APM volume 2, 8.4.2).
PF_PRESENT = 1 << 0
PF_WRITE = 1 << 1
PF_USER = 1 << 2
PF_RESERVED = 1 << 3
PF_FETCH = 1 << 4
