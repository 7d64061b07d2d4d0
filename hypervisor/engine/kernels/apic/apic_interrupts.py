"""Interrupts between the vCPUs of one VM: TPR, EOI and ICR, what they do to INTR inputs, and the vector that is taken.

What else can be written, messages that are no fixed interrupts and ends of level-triggered ones are the model's
(`hypervisor.devices.local_apic`): here they are refused before anything has changed.
"""

from __future__ import annotations

from hypervisor.arch import apic_registers as r
from hypervisor.engine import block as b_
from hypervisor.engine.jit import kernel, ld8, ld32, ld64, st8, st32, st64
from hypervisor.engine.kernels.apic.apic_words import accepts, answers, change, deliverable, highest, requests
from hypervisor.engine.shared_words.scheduling import SPINS, turn_word, vcpu_word

_APIC, _ROW, _VCPUS, _VCPU_COUNT, _TURNS = b_.APIC, b_.ROW, b_.VCPUS, b_.VCPU_COUNT, b_.TURNS
_INTR, _ARMED, _NOW, _NEXT, _DEADLINE, _SPINS_WORD = b_.INTR, b_.ARMED, b_.NOW, b_.NEXT, b_.DEADLINE, b_.SPINS
_SPINS = SPINS
_APIC_AT, _OWN, _LEVEL, _EVENT_AT, _POSITION = (
    vcpu_word(name) for name in ("apic_at", "own_apic", "intr", "event_at", "position")
)
_SEVERAL, _INSIDE, _TIME, _END, _SLICE = (turn_word(name) for name in ("several", "inside", "time", "end", "slice_ns"))
_TPR, _EOI, _ICR_LOW, _ICR_HIGH, _ISR, _TMR, _IRR = r.TPR, r.EOI, r.ICR_LOW, r.ICR_HIGH, r.ISR, r.TMR, r.IRR
_MODE, _VECTOR, _LOGICAL, _ICR_WRITABLE = r.MODE_MASK << r.MODE_SHIFT, r.VECTOR, r.LOGICAL, r.ICR_WRITABLE
_SHORTHAND_SHIFT, _DESTINATION, _BROADCAST = r.SHORTHAND_SHIFT, r.DESTINATION, r.BROADCAST
_NONE, _SELF, _ALL = int(r.Shorthand.NONE), int(r.Shorthand.SELF), int(r.Shorthand.ALL)


@kernel
def _end_turn_at(b, turns, time):  # type: ignore[no-untyped-def]
    """`Turns.end_at`."""
    st64(turns + _END, min(ld64(turns + _END), time))
    if time < ld64(b + _NEXT):
        st64(b + _NEXT, time)
        st64(b + _DEADLINE, min(ld64(b + _DEADLINE), time))
    return 0


@kernel
def _happens(b, row):  # type: ignore[no-untyped-def]
    """`Turns.happens`: something happens to a vCPU that may wake it."""
    turns = ld64(b + _TURNS)
    if ld8(turns + _SEVERAL) == 0:
        return 0
    other = row != ld64(b + _ROW)
    if ld8(turns + _INSIDE) == 0:
        st64(row + _EVENT_AT, ld64(turns + _TIME))
        if other:
            own = ld64(ld64(b + _ROW) + _POSITION)
            st64(turns + _END, min(ld64(turns + _END), own + ld64(turns + _SLICE)))
        return 0
    now = ld64(b + _NOW)
    st64(row + _EVENT_AT, now)
    if other:
        st64(b + _SPINS_WORD, _SPINS)
        _end_turn_at(b, turns, now + ld64(turns + _SLICE))
    return 0


@kernel
def drive(b, row, level):  # type: ignore[no-untyped-def]
    """Drive a vCPU's INTR, as its `Line` does."""
    if ld8(row + _LEVEL) == level:
        return 0
    st8(row + _LEVEL, level)
    if row == ld64(b + _ROW):
        st64(b + _INTR, level)
        if level:
            st64(b + _ARMED, 1)
            st64(b + _DEADLINE, 0)
    if level:
        _happens(b, row)
    return 0


@kernel
def _end_of_interrupt(b, page):  # type: ignore[no-untyped-def]
    vector = highest(page, _ISR)
    if vector < 0:
        return 1
    if ld32(page + _TMR + 16 * (vector >> 5)) >> (vector & 31) & 1:
        return 0
    change(page, _ISR, vector, 0)
    drive(b, ld64(b + _ROW), requests(page))
    return 1


@kernel
def _take(b, row, page, vector):  # type: ignore[no-untyped-def]
    """A fixed interrupt comes to a vCPU's APIC."""
    if accepts(page):
        change(page, _IRR, vector, 1)
        change(page, _TMR, vector, 0)
        drive(b, row, requests(page))
    return 0


@kernel
def send_self(b, page, vector):  # type: ignore[no-untyped-def]
    """A fixed interrupt to the vCPU on the pCPU itself (10.12.11); 0 for one that is an error."""
    if vector < 16:
        return 0
    _take(b, ld64(b + _ROW), page, vector)
    return 1


@kernel
def send(b, page, value, destination):  # type: ignore[no-untyped-def]
    """A fixed interrupt to vCPUs of this VM (10.6.1); 0 for whatever else ``value`` in the ICR's lower half is."""
    vector = value & _VECTOR
    if value & _MODE or vector < 16:
        return 0
    st32(page + _ICR_LOW, value & _ICR_WRITABLE)
    shorthand, logical = value >> _SHORTHAND_SHIFT & 3, value & _LOGICAL
    for n in range(ld64(b + _VCPU_COUNT)):
        row = ld64(ld64(b + _VCPUS) + 8 * n)
        other = ld64(row + _APIC_AT)
        if shorthand == _NONE:
            taken = answers(other, destination, logical)
        elif shorthand == _SELF:
            taken = 1 if other == page else 0
        else:
            taken = 1 if shorthand == _ALL or other != page else 0
        if taken:
            _take(b, row, other, vector)
    return 1


@kernel
def _destination(page, logical):  # type: ignore[no-untyped-def]
    """Who is meant by the upper half of an xAPIC's ICR, as `hypervisor.devices.apic_bus.from_byte`."""
    destination = ld32(page + _ICR_HIGH) >> 24
    return _BROADCAST if destination == 0xFF and logical == 0 else destination


@kernel
def write(b, page, offset, value):  # type: ignore[no-untyped-def]
    """Store into a register of the vCPU on the pCPU; 0 where that is left to the model."""
    if offset == _TPR:
        st32(page + _TPR, value & 0xFF)
        drive(b, ld64(b + _ROW), requests(page))
        return 1
    if offset == _EOI:
        return _end_of_interrupt(b, page)
    if offset == _ICR_HIGH:
        st32(page + _ICR_HIGH, value & _DESTINATION)
        return 1
    if offset == _ICR_LOW:
        return send(b, page, value, _destination(page, value & _LOGICAL))
    return 0


@kernel
def acknowledge(b):  # type: ignore[no-untyped-def]
    """The vector that the vCPU on the pCPU takes, which is now in service; -1 where its controller must be asked."""
    page, row = ld64(b + _APIC), ld64(b + _ROW)
    if page == 0 or ld8(row + _OWN) == 0 or ld8(row + _LEVEL) == 0:
        return -1
    vector = deliverable(page)
    if vector >= 0:
        change(page, _IRR, vector, 0)
        change(page, _ISR, vector, 1)
        drive(b, row, requests(page))
    return vector


__all__ = ["acknowledge", "drive", "send", "send_self", "write"]
