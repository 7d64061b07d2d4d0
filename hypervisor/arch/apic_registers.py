"""The local APIC's registers and their fields, as data.

Source: Intel Software Developer's Manual volume 3A, chapter 10 (table 10-1 "Local APIC Register Address Map"; figures
10-8 "Local Vector Table", 10-12 "Interrupt Command Register"; table 10-6 "Local APIC Register Address Map Supported by
x2APIC"); AMD64 APM volume 2, chapter 16, agrees.
"""

from __future__ import annotations

from enum import IntEnum

from hypervisor.arch.device_registers import Register

SIZE = 0x1000
"""Bytes of the register window: one page."""

REGISTERS_SIZE = 0x400
"""Bytes of it that hold registers."""

ID, VERSION, TPR, APR, PPR, EOI, RRD, LDR, DFR, SVR = 0x20, 0x30, 0x80, 0x90, 0xA0, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR_LOW, ICR_HIGH = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR = 0x320, 0x330, 0x340, 0x350, 0x360, 0x370
TIMER_INITIAL, TIMER_CURRENT, TIMER_DIVIDE, SELF_IPI = 0x380, 0x390, 0x3E0, 0x3F0

REGISTERS = (
    Register(ID, "ID", "rw", "31:24 APIC id; survives INIT"),
    Register(VERSION, "VERSION", "r", "7:0 version 14h, 23:16 highest LVT entry 5"),
    Register(TPR, "TPR", "rw", "7:0 task priority; CR8 is bits 7:4"),
    Register(APR, "APR", "r", "7:0 arbitration priority"),
    Register(PPR, "PPR", "r", "7:0 processor priority"),
    Register(EOI, "EOI", "w", "any write ends the highest interrupt in service"),
    Register(RRD, "RRD", "r", "remote read: not offered, zero"),
    Register(LDR, "LDR", "rw", "31:24 logical APIC id"),
    Register(DFR, "DFR", "rw", "31:28 Fh flat, 0 cluster; the rest ones"),
    Register(SVR, "SVR", "rw", "7:0 spurious vector, 8 software enable, 9 focus check (kept)"),
    *(Register(ISR + 16 * n, f"ISR{n}", "r", f"in service, vectors {32 * n} to {32 * n + 31}") for n in range(8)),
    *(Register(TMR + 16 * n, f"TMR{n}", "r", f"level triggered, vectors {32 * n} to {32 * n + 31}") for n in range(8)),
    *(Register(IRR + 16 * n, f"IRR{n}", "r", f"requested, vectors {32 * n} to {32 * n + 31}") for n in range(8)),
    Register(ESR, "ESR", "rw", "a write shows the errors since the last write, and forgets them"),
    Register(ICR_LOW, "ICR_LOW", "rw", "a write sends an interprocessor interrupt"),
    Register(ICR_HIGH, "ICR_HIGH", "rw", "31:24 destination; in x2APIC mode all of it, as the upper half of the ICR"),
    Register(LVT_TIMER, "LVT_TIMER", "rw", "7:0 vector, 12 pending, 16 masked, 17 periodic"),
    Register(LVT_THERMAL, "LVT_THERMAL", "rw", "kept; nothing gets hot"),
    Register(LVT_PERFORMANCE, "LVT_PERFORMANCE", "rw", "kept; nothing counts"),
    Register(LVT_LINT0, "LVT_LINT0", "rw", "the 8259's output; 10:8 mode, 13 low active, 14 remote IRR, 15 level"),
    Register(LVT_LINT1, "LVT_LINT1", "rw", "the NMI wire"),
    Register(LVT_ERROR, "LVT_ERROR", "rw", "7:0 vector, 16 masked"),
    Register(TIMER_INITIAL, "TIMER_INITIAL", "rw", "a write starts the timer; 0 stops it"),
    Register(TIMER_CURRENT, "TIMER_CURRENT", "r", "counts down"),
    Register(TIMER_DIVIDE, "TIMER_DIVIDE", "rw", "3, 1:0: divide by 2, 4, 8, 16, 32, 64, 128, 1"),
)

VERSION_VALUE = 0x0005_0014
"""An integrated APIC (1Xh) with six LVT entries, without EOI-broadcast suppression (SDM 10.4.8)."""

# Fields of LVT entries, of the ICR and of the IOAPIC's redirection entries, which share their low half.
VECTOR = 0xFF
MODE_SHIFT, MODE_MASK = 8, 7
LOGICAL = 1 << 11
PENDING = 1 << 12
LOW_ACTIVE = 1 << 13
REMOTE_IRR = 1 << 14
ASSERT = 1 << 14
"""In the ICR: the level of an INIT."""
LEVEL = 1 << 15
MASKED = 1 << 16
PERIODIC = 1 << 17
SHORTHAND_SHIFT = 18

SVR_ENABLE = 1 << 8
SVR_WRITABLE = 0x3FF
DESTINATION = 0xFF << 24
"""Of ICR_HIGH, outside x2APIC mode."""
BROADCAST = 0xFFFF_FFFF
"""The destination that is everybody (10.12.9). `hypervisor.devices.apic_bus.from_byte` makes it of an xAPIC's."""
DFR_FLAT, DFR_CLUSTER = 0xF, 0x0
DFR_RESET = 0xFFFF_FFFF

ESR_SEND_ILLEGAL, ESR_RECEIVE_ILLEGAL, ESR_REGISTER = 1 << 5, 1 << 6, 1 << 7
"""A reserved vector (0 to 15) was sent, or came in; an address without a register was touched (SDM 10.5.3)."""

LVT_WRITABLE = {
    LVT_TIMER: VECTOR | MASKED | PERIODIC,
    LVT_THERMAL: VECTOR | MODE_MASK << MODE_SHIFT | MASKED,
    LVT_PERFORMANCE: VECTOR | MODE_MASK << MODE_SHIFT | MASKED,
    LVT_LINT0: VECTOR | MODE_MASK << MODE_SHIFT | LOW_ACTIVE | LEVEL | MASKED,
    LVT_LINT1: VECTOR | MODE_MASK << MODE_SHIFT | LOW_ACTIVE | LEVEL | MASKED,
    LVT_ERROR: VECTOR | MASKED,
}
"""Each entry's writable bits (SDM figure 10-8)."""

ICR_WRITABLE = VECTOR | MODE_MASK << MODE_SHIFT | LOGICAL | ASSERT | LEVEL | 3 << SHORTHAND_SHIFT
DIVIDE_WRITABLE = 0xB

X2APIC_MSRS = range(0x800, 0x900)
"""In x2APIC mode the register at an offset is the MSR 800h + offset / 16, and the page is not there (10.12.1.2)."""

X2APIC_READABLE = frozenset(
    register.offset
    for register in REGISTERS
    if "r" in register.access and register.offset not in (APR, RRD, DFR, ICR_HIGH)
)
X2APIC_WRITABLE = {
    TPR: 0xFF,
    EOI: 0,
    SVR: SVR_WRITABLE,
    ESR: 0,
    ICR_LOW: 0xFFFF_FFFF << 32 | ICR_WRITABLE,
    **{at: bits | PENDING | (REMOTE_IRR if bits & LEVEL else 0) for at, bits in LVT_WRITABLE.items()},
    TIMER_INITIAL: 0xFFFF_FFFF,
    TIMER_DIVIDE: DIVIDE_WRITABLE,
    SELF_IPI: VECTOR,
}
"""The bits that a WRMSR may set, those that it sets without effect included; another one raises #GP."""

DIVIDE_SHIFTS = {0b0000: 1, 0b0001: 2, 0b0010: 3, 0b0011: 4, 0b1000: 5, 0b1001: 6, 0b1010: 7, 0b1011: 0}
"""Divide configuration -> power of two (SDM figure 10-10)."""


class Mode(IntEnum):
    """How an interrupt is delivered (SDM 10.6.1)."""

    FIXED = 0
    LOWEST = 1
    SMI = 2
    RESERVED = 3
    NMI = 4
    INIT = 5
    STARTUP = 6
    EXTINT = 7


class Shorthand(IntEnum):
    """Who gets an interprocessor interrupt, bits 19:18 of the ICR."""

    NONE = 0
    SELF = 1
    ALL = 2
    OTHERS = 3
