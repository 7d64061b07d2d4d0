"""The classic mistakes of a young kernel, recognised in a crash and named in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypervisor.debug.autopsy import Autopsy
from hypervisor.debug.delivery import Event as Raised
from hypervisor.debug.mistakes import modes
from hypervisor.debug.mistakes import of_events as e
from hypervisor.debug.mistakes import of_memory as m
from hypervisor.debug.mistakes import of_tables as t
from hypervisor.debug.mistakes.case import Case
from hypervisor.traps.history import Event

Rule = Callable[[Case], str]
"""Judges a case: a sentence, or "" if it is not this mistake."""

EVENT_RULES: tuple[Rule, ...] = (e.pic_not_remapped, e.no_error_code_pop, m.started_nowhere, e.again_and_again)
"""What the last events show, crash or not."""

RULES: tuple[Rule, ...] = (
    e.pic_not_remapped, e.no_error_code_pop, m.started_nowhere, m.tables_lost, e.again_and_again, t.no_tss,
    t.empty_stack_in_tss, t.bad_stack_in_tss, m.bad_stack, modes.long_mode_off, m.page_fault, m.paging_switched_on,
    m.wild_address, modes.sixteen_bit_code, t.gdt_limit, t.wrong_selector,
    modes.bios_call, m.lost, e.handler_faults, t.no_idt, t.wrong_code_segment, t.gate_missing, modes.compatibility_mode,
)  # fmt: skip
"""What caused the first exception comes before what kept it from its handler."""


def mistakes(
    vcpu: Any,
    chain: Sequence[Any],
    raised: Raised | None,
    found: Autopsy | None,
    events: Sequence[Event],
    handling: Sequence[Event] = (),
) -> list[str]:
    """Sentences about what the guest got wrong, the best first; empty if it is no classic.

    ``chain`` holds the exceptions of a crash (objects with ``vector``, ``error``, ``address``), the first of which is
    ``raised``, or is empty for a guest that only waits; ``handling`` are the events whose handlers were running.
    """
    first = chain[0] if chain else None
    case = Case(
        vcpu,
        None if first is None else first.vector,
        0 if first is None else first.error or 0,
        None if first is None else first.address,
        () if found is None else found.attempts,
        events,
        None if raised is None else raised.origin,
        handling,
    )
    return [text for rule in (RULES if chain else EVENT_RULES) if (text := rule(case))]
