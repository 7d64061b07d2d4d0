"""What was interrupted, and has not been returned to: the frames of exceptions and interrupts that lie on the stack.

The processor leaves no list of handlers that run. But the last events say what was delivered where, and a handler that
has not returned has its frame above the stack pointer: RIP and CS, in this order (APM volume 2, 8.7.3 and 8.9.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypervisor.debug.descriptor_tables import descriptor
from hypervisor.debug.disasm import LONGEST, code_bits, read_forward
from hypervisor.errors import GuestFault
from hypervisor.traps.history import SOFTWARE, Event

STACK_BYTES = 16384
"""How much of the stack is searched."""


@dataclass(frozen=True)
class Interrupted:
    """An event whose handler has not returned: ``at`` is where in the stack segment its frame has RIP."""

    at: int
    event: Event


def interrupted(vcpu: Any, events: Sequence[Event]) -> list[Interrupted]:
    """The events whose handlers run, innermost first; ``events`` are those of the vCPU that were delivered, oldest
    first. Empty in 16-bit code, where a frame is too short to be told from data.
    """
    bits = code_bits(vcpu)
    if bits == 16:
        return []
    size, pointer = bits // 8, vcpu.rsp & (1 << bits) - 1
    base = 0 if bits == 64 else vcpu.ss.base
    try:
        data = read_forward(vcpu, base + pointer, STACK_BYTES)
    except GuestFault:
        return []
    words = [int.from_bytes(data[n : n + size], "little") for n in range(0, len(data) - size + 1, size)]
    code = {word for word in {*words} if word <= 0xFFFF and (entry := descriptor(vcpu, word)) and entry.is_code}
    places = [(index, word) for index, word in enumerate(words[:-1]) if words[index + 1] in code]
    found: list[Interrupted] = []
    start = 0
    for event in reversed(events):
        behind = LONGEST if event.origin == SOFTWARE else 0  # INT n pushes the address behind itself
        for index, word in places:
            if event.vector is not None and index >= start and event.rip <= word <= event.rip + behind:
                found.append(Interrupted(pointer + index * size, event))
                start = index + 1
                break
    return found
