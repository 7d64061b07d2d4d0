"""The task switch that a task gate in the IDT causes: APM volume 2, chapter 12; SDM volume 3, 8.3.

The switch nests: the old task stays busy, the new one gets its selector as link and NT. Faults before the commit
point belong to the old task, faults after it (selectors, stack, EIP) to the new one.
"""

from __future__ import annotations

from dataclasses import dataclass

from .event import Attempt
from .linear import GuestFaultError
from .segments import (
    LDT,
    TSS16_AVAILABLE,
    TSS16_BUSY,
    TSS_AVAILABLE,
    Descriptor,
    mark_accessed,
    null,
    read_descriptor,
)
from .stack import Stack
from .state import CR0_TS, NT, RSP, VM, Segment, State

INVALID_TSS, NOT_PRESENT, STACK, GENERAL_PROTECTION = 10, 11, 12, 13
FLAGS = 0x003F_7FD5
"""The flags that exist."""


@dataclass(frozen=True)
class Layout:
    """Where a TSS keeps what (APM 2, figures 12-6 and 12-5)."""

    word: int
    cr3: int | None
    rip: int
    flags: int
    regs: int
    segments: tuple[tuple[str, int], ...]
    ldtr: int
    trap: int | None
    limit: int
    saved: int


TSS32 = Layout(
    4, 0x1C, 0x20, 0x24, 0x28, tuple((n, 0x48 + 4 * i) for i, n in enumerate(("es", "cs", "ss", "ds", "fs", "gs"))),
    0x60, 0x64, 0x67, 0x5F,
)  # fmt: skip
TSS16 = Layout(
    2, None, 0x0E, 0x10, 0x12, tuple((n, 0x22 + 2 * i) for i, n in enumerate(("es", "cs", "ss", "ds"))),
    0x2A, None, 0x2B, 0x29,
)  # fmt: skip


class TaskFaultError(Exception):
    """A fault after the commit point: it happens in the new task."""

    def __init__(self, state: State, fault: GuestFaultError) -> None:
        """``state`` is the new task's, as far as it was loaded."""
        super().__init__(str(fault))
        self.state = state
        self.fault = fault


def switch_task(attempt: Attempt, selector: int) -> State:
    """Switch to the task that ``selector`` names and push the error code there, if there is one."""
    state, linear = attempt.state, attempt.linear
    descriptor = _available_tss(attempt, selector)
    layout = TSS16 if descriptor.type == TSS16_AVAILABLE else TSS32
    if descriptor.limit < layout.limit:
        raise attempt.fault(INVALID_TSS, selector)
    new = linear.read_system(descriptor.base, layout.limit + 1)
    _save(attempt)
    linear.write_system(descriptor.va + 5, bytes([(descriptor.attributes | 2) & 0xFF]))
    linear.write_system(descriptor.base, state.tr.selector.to_bytes(2, "little"))

    after = _load(state, layout, new)
    after.tr = Segment(selector & ~3, descriptor.base, descriptor.limit, descriptor.attributes | 2)
    if layout is TSS16:
        attempt.unsettled.add("tss16-high-halves")
    if layout.trap is not None and new[layout.trap] & 1:
        attempt.unsettled.add("tss-trap-bit")
    inner = Attempt(linear.memory, after, attempt.event, attempt.unsettled)
    try:
        _load_segments(inner)
        if attempt.error is not None:
            stack = Stack(after.segs["ss"], after.regs[RSP], after.cpl)
            stack.require_room(layout.word, 1, attempt.fault(STACK))
            after.regs[RSP] = stack.push(inner.linear, layout.word, [attempt.error])
        if after.rip > after.segs["cs"].limit:
            raise attempt.fault(GENERAL_PROTECTION)
    except GuestFaultError as fault:
        attempt.unsettled.add("fault-in-new-task")
        raise TaskFaultError(after, fault) from fault
    return after


def _available_tss(attempt: Attempt, selector: int) -> Descriptor:
    """The TSS descriptor: in the GDT, an available TSS, present."""
    if selector & 4 or null(selector):
        raise attempt.fault(GENERAL_PROTECTION, selector)
    descriptor = read_descriptor(attempt.linear, attempt.state, selector)
    if descriptor is None or descriptor.user_segment or descriptor.type not in (TSS16_AVAILABLE, TSS_AVAILABLE):
        raise attempt.fault(GENERAL_PROTECTION, selector)
    if not descriptor.present:
        raise attempt.fault(NOT_PRESENT, selector)
    return descriptor


def _save(attempt: Attempt) -> None:
    """Store the old task: the general registers, selectors (16 bits each), EIP and flags."""
    state, tr = attempt.state, attempt.state.tr
    layout = TSS16 if tr.type in (TSS16_AVAILABLE, TSS16_BUSY) else TSS32
    if tr.limit < layout.saved:
        raise attempt.fault(INVALID_TSS, tr.selector)
    values = [(layout.rip, attempt.return_rip()), (layout.flags, attempt.pushed_flags())]
    values += [(layout.regs + layout.word * n, state.regs[n]) for n in range(8)]
    mask = (1 << 8 * layout.word) - 1
    for at, value in values:
        attempt.linear.write_system(tr.base + at, (value & mask).to_bytes(layout.word, "little"))
    for name, at in layout.segments:
        attempt.linear.write_system(tr.base + at, state.segs[name].selector.to_bytes(2, "little"))


def _load(state: State, layout: Layout, new: bytes) -> State:
    """All that needs no checks: CR3, EIP, flags, general registers; segments hold bare selectors."""

    def field(at: int, size: int = layout.word) -> int:
        return int.from_bytes(new[at : at + size], "little")

    after = state.copy()
    high = 0xFFFF_0000 if layout is TSS16 else 0
    after.regs[:8] = [field(layout.regs + layout.word * n) | high for n in range(8)]
    after.rip = field(layout.rip)
    after.rflags = field(layout.flags) & FLAGS | 2 | NT
    after.cr0 |= CR0_TS
    if layout.cr3 is not None and state.paging:
        after.cr3 = field(layout.cr3)
    after.ldtr = Segment(field(layout.ldtr, 2))
    selectors = {name: field(at, 2) for name, at in layout.segments}
    after.segs = {name: Segment(selectors.get(name, 0)) for name in state.segs}
    after.cpl = 3 if after.rflags & VM else after.segs["cs"].selector & 3
    return after


def _load_segments(attempt: Attempt) -> None:
    """LDTR, then CS, SS and the data segments, each with its checks (SDM 3, table 8-1)."""
    state, linear = attempt.state, attempt.linear
    ldt = state.ldtr.selector
    if not null(ldt):
        descriptor = None if ldt & 4 else read_descriptor(linear, state, ldt)
        if descriptor is None or descriptor.user_segment or descriptor.type != LDT or not descriptor.present:
            raise attempt.fault(INVALID_TSS, ldt)
        state.ldtr = descriptor.load(ldt)
    if state.rflags & VM:
        for name, segment in state.segs.items():
            state.segs[name] = Segment(segment.selector, segment.selector << 4, 0xFFFF, 0xF3)
        return
    for name in ("cs", "ss", "ds", "es", "fs", "gs"):
        selector = state.segs[name].selector
        if null(selector) and name not in ("cs", "ss"):
            continue
        descriptor = None if null(selector) else read_descriptor(linear, state, selector)
        if descriptor is None or not _suits(name, descriptor, selector, state.cpl):
            raise attempt.fault(INVALID_TSS, selector)
        if not descriptor.present:
            raise attempt.fault(STACK if name == "ss" else NOT_PRESENT, selector)
        mark_accessed(linear, descriptor)
        state.segs[name] = descriptor.load(selector)


def _suits(name: str, descriptor: Descriptor, selector: int, cpl: int) -> bool:
    """Type and privilege."""
    rpl = selector & 3
    if name == "cs":
        return descriptor.code and (descriptor.dpl <= rpl if descriptor.conforming else descriptor.dpl == rpl)
    if name == "ss":
        return descriptor.writable_data and descriptor.dpl == cpl == rpl
    readable = descriptor.user_segment and (not descriptor.code or bool(descriptor.type & 2))
    return readable and (descriptor.conforming or (descriptor.dpl >= cpl and descriptor.dpl >= rpl))
