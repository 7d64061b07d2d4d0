"""Registers and bit fields of the HPET.

Source: IA-PC HPET (High Precision Event Timers) Specification 1.0a, section 2.3.
"""

from __future__ import annotations

from hypervisor.devices.parts.common import Register

SIZE = 0x400
TIMERS = 3
TICK_NS = 10
FEMTOSECONDS = TICK_NS * 1_000_000

CAPABILITIES, CONFIGURATION, STATUS, COUNTER = 0x000, 0x010, 0x020, 0x0F0
TIMER, TIMER_SIZE = 0x100, 0x20
TIMER_CONFIGURATION, COMPARATOR, FSB_ROUTE = 0x00, 0x08, 0x10

REGISTERS = (
    Register(CAPABILITIES, "GCAP_ID", "r", "63:32 period in fs, 31:16 vendor, 15 legacy replacement, 12:8 last timer"),
    Register(CONFIGURATION, "GEN_CONF", "rw", "0 the counter runs, 1 legacy replacement"),
    Register(STATUS, "GINTR_STA", "rw", "2:0 level-triggered interrupts that are asserted; write 1 to clear"),
    Register(COUNTER, "MAIN_CNT", "rw", "the counter; written while it stands still"),
    Register(TIMER, "T0_CONF_CAP", "rw", "1 level, 2 interrupt on, 3 periodic, 6 set value, 8 32 bits, 13:9 route"),
    Register(TIMER + COMPARATOR, "T0_CPR", "rw", "what the counter is compared with; the period, if periodic"),
    Register(TIMER + FSB_ROUTE, "T0_FSB_INT_ROUTE", "r", "no messages: 0"),
)
"""Timers 1 and 2 have theirs `TIMER_SIZE` and twice that behind those of timer 0."""

ID = 0x8086 << 16 | 1 << 15 | 1 << 13 | (TIMERS - 1) << 8 | 1
"""GCAP_ID's low half: Intel's, can replace the legacy timers, 64 bits, three timers, revision 1."""

ENABLE, LEGACY = 1 << 0, 1 << 1
"""GEN_CONF."""

LEVEL, INTERRUPT, PERIODIC, SET_VALUE, ONLY_32_BITS = 1 << 1, 1 << 2, 1 << 3, 1 << 6, 1 << 8
ROUTE_SHIFT, ROUTE_MASK = 9, 0x1F
WRITABLE = LEVEL | INTERRUPT | PERIODIC | SET_VALUE | ONLY_32_BITS
"""Bits of a timer's configuration that can be written, beside the route."""
ROUTES = 0x00FF_0000
"""Inputs of the I/O APIC that a timer can have: 16 to 23, which no other device uses."""
TIMER_ABILITIES = ROUTES << 32 | 1 << 5 | 1 << 4
"""Bits of a timer's configuration that are fixed: the routes, 64 bits wide, can be periodic."""
