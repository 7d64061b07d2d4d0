"""What one local APIC remembers, as a record, and its state after reset."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

from hypervisor.arch import apic_registers as r
from hypervisor.arch.apic_page import ApicPage
from hypervisor.devices.parts.device_state import adopt, refuse
from hypervisor.state import flag, number, record, time_ns, u8

VECTORS = 256
_ALL = (1 << VECTORS) - 1
_LVT = 0x3FFFF


@record
class LocalApicState:
    """The fields of `ApicPage` by their names.

    ``irr``, ``isr`` and ``tmr`` are 256-bit numbers, one bit for each vector. ``lint0`` and ``lint1`` are the levels of
    the wires; ``extint`` is an external interrupt that came as a message. The timer's counter was ``timer_initial`` at
    ``timer_start_ns``.
    """

    id: int = u8()
    enabled: bool = flag(True)
    x2apic: bool = flag()
    tpr: int = u8()
    ldr: int = u8()
    dfr: int = number(0, 0xF, r.DFR_FLAT)
    svr: int = number(0, r.SVR_WRITABLE, 0xFF)
    isr: int = number(0, _ALL)
    tmr: int = number(0, _ALL)
    irr: int = number(0, _ALL)
    esr: int = u8()
    errors: int = u8()
    icr_low: int = number(0, r.ICR_WRITABLE)
    icr_high: int = number(0, 0xFFFF_FFFF)
    lvt_timer: int = number(0, _LVT, r.MASKED)
    lvt_thermal: int = number(0, _LVT, r.MASKED)
    lvt_performance: int = number(0, _LVT, r.MASKED)
    lvt_lint0: int = number(0, _LVT, r.MASKED)
    lvt_lint1: int = number(0, _LVT, r.MASKED)
    lvt_error: int = number(0, _LVT, r.MASKED)
    lint0: bool = flag()
    lint1: bool = flag()
    extint: bool = flag()
    timer_initial: int = number(0, 0xFFFF_FFFF)
    timer_divide: int = number(0, 0xB)
    timer_start_ns: int = time_ns()
    timer_periodic: bool = flag()
    timer_over: bool = flag()
    """It had counted to zero once when it became periodic: it stays there until an initial count is written."""
    timer_armed: bool = flag()
    """An interrupt is to come: the entry is not masked, and a one-shot has not run out yet."""
    timer_due_ns: int = time_ns()


_FIELDS = tuple(one.name for one in fields(LocalApicState))

LVT_FIELDS = {
    r.LVT_TIMER: "lvt_timer",
    r.LVT_THERMAL: "lvt_thermal",
    r.LVT_PERFORMANCE: "lvt_performance",
    r.LVT_LINT0: "lvt_lint0",
    r.LVT_LINT1: "lvt_lint1",
    r.LVT_ERROR: "lvt_error",
}
"""Offset of an LVT entry -> its field."""


def after_reset(apic_id: int, bootstrap: bool) -> LocalApicState:
    """The state after power-on or INIT (SDM 10.4.7.1), but for one bit that firmware relies on: LINT0 of the bootstrap
    processor passes the 8259's interrupts (ExtINT), as in QEMU, so that whoever never looks at the APIC needs not.
    """
    return LocalApicState(id=apic_id, lvt_lint0=r.Mode.EXTINT << r.MODE_SHIFT if bootstrap else r.MASKED)


@lru_cache(maxsize=16)  # of most machines' few vCPUs: forks are made by the thousand
def _image(apic_id: int, bootstrap: bool) -> bytes:
    page = ApicPage()
    put(page, after_reset(apic_id, bootstrap))
    return bytes(page)


def new_page(apic_id: int, bootstrap: bool) -> ApicPage:
    """A page that holds what `after_reset` says."""
    return ApicPage.of_bytes(_image(apic_id, bootstrap))


def check(name: str, state: LocalApicState) -> None:
    """Raises `DeviceError` for what is no state of the local APIC of this name."""
    adopt(name, LocalApicState, state)
    if state.timer_divide not in r.DIVIDE_SHIFTS:
        raise refuse(name, f"state.timer_divide is {state.timer_divide}, which is no divide configuration")
    if state.x2apic and not state.enabled:
        raise refuse(name, "state.x2apic is set, and state.enabled is not: there is no such mode")


def record_of(page: ApicPage) -> LocalApicState:
    """What a page holds."""
    return LocalApicState(*[getattr(page, name) for name in _FIELDS])


class Likeness:
    """Whether a page holds what a record says. A record that is asked for again and again, as a snapshot's is, is
    compared field by field once, and then by the bytes of the page that held it.
    """

    def __init__(self) -> None:
        self._found: tuple[LocalApicState, bytes] | None = None

    def holds(self, page: ApicPage, record: LocalApicState) -> bool:
        """Whether it does. Nobody changes the record."""
        content = bytes(page)
        if self._found is not None and self._found[0] is record and self._found[1] == content:
            return True
        same = record_of(page) == record
        if same:
            self._found = record, content
        return same


def put(page: ApicPage, record: LocalApicState) -> None:
    """Let a page hold what a record says."""
    for name in _FIELDS:
        setattr(page, name, getattr(record, name))
