"""What one local APIC remembers, as memory: its page of registers, and behind them what has no register.

The registers are where the guest sees them, as in the backing page of AMD's AVIC (APM volume 2, 15.29.3) and in Intel's
virtual-APIC page (SDM volume 3C, 29.1). So the device model uses them by name, and the engine serves the same words
inside the guest's instruction. Those that are computed when they are read (`COMPUTED`) are zero here.
"""

from __future__ import annotations

import ctypes
from typing import Any

from hypervisor.arch import apic_registers as r

COMPUTED = frozenset((r.APR, r.PPR, r.EOI, r.RRD, r.TIMER_CURRENT))
"""Registers whose value is not kept. So are ID and LDR in x2APIC mode: they follow from `ApicPage.id`."""

_PARTS = {r.ID: ("id", 24), r.LDR: ("ldr", 24), r.DFR: ("dfr", 28)}
"""Registers of which only the bits from one on change: the name of these, and the first."""

_BEHIND: list[tuple[str, Any]] = [
    ("enabled", ctypes.c_bool),  # by the MSR APIC_BASE
    ("x2apic", ctypes.c_bool),  # likewise: the registers are MSRs
    ("lint0", ctypes.c_bool),  # the levels of the wires
    ("lint1", ctypes.c_bool),
    ("extint", ctypes.c_bool),  # an external interrupt has come as a message
    ("errors", ctypes.c_uint8),  # what the next write of ESR shows
    ("timer_periodic", ctypes.c_bool),
    ("timer_over", ctypes.c_bool),
    ("timer_armed", ctypes.c_bool),
    ("timer_start_ns", ctypes.c_int64),
    ("timer_due_ns", ctypes.c_int64),
]


def _fields() -> list[tuple[Any, ...]]:
    """The registers in the order of their offsets, with gaps between them."""
    fields: list[tuple[Any, ...]] = []
    at = 0
    for register in sorted(r.REGISTERS):
        fields.append((f"_below_{register.name}", ctypes.c_uint8 * (register.offset - at)))
        part = _PARTS.get(register.offset)
        if part is None:
            fields.append((register.name.lower(), ctypes.c_uint32))
        else:
            name, first = part
            fields += [(f"_low_{name}", ctypes.c_uint32, first), (name, ctypes.c_uint32, 32 - first)]
        at = register.offset + 4
    fields.append(("_last", ctypes.c_uint8 * (r.REGISTERS_SIZE - at)))
    return fields + _BEHIND


class ApicPage(ctypes.Structure):
    """One local APIC's memory. Registers are attributes by their names in lower case; of ID, LDR and DFR they are the
    upper bits alone, as outside x2APIC mode. `isr`, `tmr` and `irr` are 256-bit numbers, one bit for each vector.
    """

    id: int
    enabled: bool
    x2apic: bool
    tpr: int
    ldr: int
    dfr: int
    svr: int
    esr: int
    errors: int
    icr_low: int
    icr_high: int
    lvt_timer: int
    lvt_thermal: int
    lvt_performance: int
    lvt_lint0: int
    lvt_lint1: int
    lvt_error: int
    lint0: bool
    lint1: bool
    extint: bool
    timer_initial: int
    timer_divide: int
    timer_start_ns: int
    timer_due_ns: int
    timer_periodic: bool
    timer_over: bool
    timer_armed: bool

    _fields_ = _fields()

    def __init__(self) -> None:
        super().__init__(version=r.VERSION_VALUE, _low_dfr=r.DFR_RESET >> 4)
        self.words = words = memoryview(self).cast("B").cast("I")
        """All of it, by offsets divided by four."""
        self._isr, self._tmr, self._irr = (words[at >> 2 : (at >> 2) + 32 : 4] for at in (r.ISR, r.TMR, r.IRR))

    @classmethod
    def of_bytes(cls, content: bytes) -> ApicPage:
        """One with this memory."""
        page = cls()
        memoryview(page).cast("B")[:] = content
        return page

    def __reduce__(self) -> tuple[Any, ...]:
        return ApicPage.of_bytes, (bytes(self),)

    @property
    def isr(self) -> int:
        """The vectors in service."""
        return int.from_bytes(self._isr.tobytes(), "little")

    @isr.setter
    def isr(self, vectors: int) -> None:
        self._isr[:] = _words(vectors)

    @property
    def tmr(self) -> int:
        """The vectors that were level-triggered when they came last."""
        return int.from_bytes(self._tmr.tobytes(), "little")

    @tmr.setter
    def tmr(self, vectors: int) -> None:
        self._tmr[:] = _words(vectors)

    @property
    def irr(self) -> int:
        """The vectors that are requested."""
        return int.from_bytes(self._irr.tobytes(), "little")

    @irr.setter
    def irr(self, vectors: int) -> None:
        self._irr[:] = _words(vectors)


def _words(vectors: int) -> memoryview:
    return memoryview(vectors.to_bytes(32, "little")).cast("I")


def offset_of(name: str) -> int:
    """Where what has no register lies in the page, in bytes."""
    offset: int = getattr(ApicPage, name).offset
    return offset
