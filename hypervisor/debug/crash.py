"""The crash report: what a guest was doing when it died, and why it died of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from hypervisor.arch import flags
from hypervisor.arch.vectors import PF, SELECTOR_EXT, SELECTOR_IDT, SELECTOR_TI
from hypervisor.debug.chain import first_event, links, reconstruct
from hypervisor.debug.disasm import around, code_bits, linear_rip
from hypervisor.debug.interrupted import interrupted
from hypervisor.debug.mistakes import mistakes
from hypervisor.debug.peeking import Symbols, Vcpu, Vm
from hypervisor.debug.register_text import mode_name, registers
from hypervisor.debug.stack import named, trace
from hypervisor.errors import GuestFault
from hypervisor.outcome.crash_record import Crash, Link, StackFrame
from hypervisor.traps.history import Event, line

LAST_EVENTS = 32
"""How many exits and interrupts a report shows."""

MOST_HANDLERS = 4
"""How many handlers that run one inside the other a report names."""

STACK_WORDS = 8
"""How many words of the stack a report shows."""


def report(vm: Vm, message: str = "", chain: Sequence[Any] = (), events: Sequence[Event] = (), cpu: int = 0) -> Crash:
    """Why a guest died and what it was doing: ``str()`` of the answer is the report.

    ``message`` is its first line, ``chain`` the exceptions that led here, oldest first (objects with ``vector``,
    ``error``, ``address``), ``events`` the last exits and interrupts, ``cpu`` the number of the vCPU that died. What
    cannot be had (code on a page that is not mapped, say) is replaced by the reason: no state of a guest makes this
    fail.
    """
    vcpu = vm.vcpus[cpu] if vm.vcpus else None
    shown = tuple(events[-LAST_EVENTS:])
    if vcpu is None:
        return Crash("\n".join([message, *_events(events, vm)]), message, events=shown)
    own = [event for event in events if event.vcpu == cpu]
    delivered = [event for event in own if event.vector is not None]
    first, delivered = first_event(chain, delivered)
    pending = interrupted(vcpu, delivered)
    handling = tuple(came.event for came in reversed(pending))
    found = reconstruct(vcpu, chain, first)
    named = tuple(mistakes(vcpu, chain, first, found, own, handling))
    made = tuple(links(vcpu, chain, first, found))
    frames = tuple(trace(vcpu, vm.symbols, pending))
    found_at = vm.symbols.lookup(linear_rip(vcpu))
    start = None if found_at is None else linear_rip(vcpu) - found_at[1]
    code = _or_reason(partial(_code, start=start), vcpu)
    texts = registers(vcpu)
    lines = [
        *([message] if message else []),
        *(f"likely mistake: {text}" for text in named),
        *_chain(made, frames[0], found is not None, _handlers(vm, handling)),
        f"vcpu {cpu}, {mode_name(vcpu)}:",
        *_indented(texts),
        f"code at {frames[0]}:",
        *_indented(code),
        "stack trace:",
        *_frames(frames),
        "stack:",
        *_indented(_or_reason(_stack, vcpu)),
        *_others(vm, cpu),
        *_events(events, vm),
    ]
    return Crash("\n".join(lines), message, named, handling, made, texts, code, frames, shown)


def _handlers(vm: Vm, handling: Sequence[Event]) -> Iterator[str]:
    """What was being handled already when the chain began, outermost first; of many, the ends."""
    texts = [f"{event}, at {place(event.rip, vm.symbols)}" for event in handling]
    if len(texts) > MOST_HANDLERS:
        left_out = len(texts) - MOST_HANDLERS + 1
        texts[MOST_HANDLERS // 2 : -(MOST_HANDLERS // 2 - 1)] = [f"({left_out} more, each inside the one before)"]
    return (f"  in the handler of: {text}" for text in texts)


def _chain(made: Sequence[Link], here: StackFrame, explained: bool, handlers: Iterator[str]) -> Iterator[str]:
    if not made:
        return
    yield "what happened:"
    yield from handlers
    for number, link in enumerate(made):
        yield f"  {number + 1}. {link_line(link)}" + (f", at {here}" if number == 0 else "")
        for label, text in (
            ("", link.cause),
            ("", link.walk),
            ("gate: ", link.gate),
            ("stack: ", link.stack),
            ("not delivered: ", link.why),
        ):
            if text:
                yield f"     {label}{text}"
    yield f"  {len(made) + 1}. triple fault: the processor shut down"
    if not explained:
        yield "  (why each was not delivered cannot be said: the tables have changed on the way)"


def link_line(link: Link) -> str:
    """One event of the chain: ``#PF page fault, error 0x2 [W], address 0xb8``."""
    parts = [link.name]
    if link.error is not None:
        parts.append(f"error {link.error:#x}{_error_words(link.vector, link.error)}")
    if link.address is not None and link.vector == PF:
        parts.append(f"address {link.address:#x}")
    return ", ".join(parts)


def _error_words(vector: int, error: int) -> str:
    """What an error code says (APM volume 2, 8.4)."""
    if vector == PF:
        words = flags.names(error, flags.PAGE_FAULT_NAMES)
        return f" [{words}]" if words else ""
    if not error & ~SELECTOR_EXT:
        return ""
    if error & SELECTOR_IDT:
        return f" [IDT entry {error >> 3}]"
    return f" [selector {error & 0xFFFC:#x} of the {'LDT' if error & SELECTOR_TI else 'GDT'}]"


def _others(vm: Vm, cpu: int) -> Iterator[str]:
    """The vCPUs that did not die, on a line each."""
    for number, vcpu in enumerate(vm.vcpus):
        if number != cpu and vcpu.activity == "waiting-for-startup":
            yield f"vcpu {number}: waits for its startup IPI"
        elif number != cpu:
            activity = ", asleep (HLT)" if vcpu.activity == "halted" else ""
            yield f"vcpu {number}, {mode_name(vcpu)}: at {place(linear_rip(vcpu), vm.symbols)}{activity}"


def _events(events: Sequence[Event], vm: Vm) -> Iterator[str]:
    """The last ones on a line each; those that differ in nothing but their time share one."""
    runs = [[*run] for _, run in groupby(events, key=lambda event: event[1:])][-LAST_EVENTS:]
    count = sum(map(len, runs))
    if runs:
        yield "last exit or interrupt:" if count == 1 else f"last {count} exits and interrupts, newest last:"
    for run in runs:
        yield f"  {line(run[0], vm.symbols, len(vm.vcpus))}"
        if len(run) > 1:
            yield f"  {run[-1].ns:>14} ns  the last of {len(run)} alike"


def _frames(frames: Sequence[StackFrame]) -> Iterator[str]:
    if any(frame.guessed for frame in frames):
        yield "  (no frame pointers: '?' marks what only looks like a return address)"
    number = 0
    for frame, run in groupby(frames):
        again = len([*run]) - 1
        mark = "? " if frame.guessed else "  "
        came = f", interrupted by {frame.interrupted}" if frame.interrupted else ""
        yield f"  #{number:<2}{mark}{frame}{came}"
        if again:
            yield f"  #{number + 1}{f' to #{number + again}' if again > 1 else ''}: the same"
        number += again + 1


def _code(vcpu: Vcpu, start: int | None) -> str:
    rip = linear_rip(vcpu)
    lines = around(vcpu, start=start)
    return "\n".join(f"{'->' if line.address == rip else '  '} {line}" for line in lines)


def _stack(vcpu: Vcpu) -> str:
    """The first words above the stack pointer, as wide as the code's registers, four to a line."""
    bits = code_bits(vcpu)
    size = bits // 8
    mask = (1 << bits) - 1
    pointer = vcpu.rsp & mask if bits == 64 else vcpu.ss.base + (vcpu.rsp & mask)
    data = vcpu.read(pointer, STACK_WORDS * size)
    words = [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]
    return "\n".join(
        f"{pointer + start * size:#x}: " + " ".join(f"{word:0{2 * size}x}" for word in words[start : start + 4])
        for start in range(0, len(words), 4)
    )


def _or_reason(part: Callable[[Vcpu], str], vcpu: Vcpu) -> str:
    try:
        return part(vcpu)
    except GuestFault as error:
        return f"cannot be read: {error}"


def place(address: int, symbols: Symbols) -> str:
    """An address with its symbol and source line, where they are known."""
    return str(named(symbols, address, address))


def _indented(text: str) -> Iterator[str]:
    return (f"  {line}" for line in text.splitlines())
