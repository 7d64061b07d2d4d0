"""What is said when the process dies of a signal while a guest runs: which VM, which vCPU, where, and the instruction.

Runs in a signal handler, so it calls nothing but ``write``, ``sigaction``, ``raise``, and code that neither allocates
nor locks. Nothing is recovered, but for slots of a swap file (`lost_slots`): whoever had the signal before gets it.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call1, call3, kernel, ld8, ld16, ld32, ld64, st8, st64
from hypervisor.engine.kernels.memory.code_bytes import fetch
from hypervisor.engine.kernels.memory.lost_slots import lost
from hypervisor.engine.kernels.stopping.emergency import running

_GUARD, _SPOKEN, _WRITE, _RAISE = b_.SIGNAL_GUARD, b_.SIGNAL_SPOKEN, b_.SIGNAL_WRITE, b_.SIGNAL_RAISE
_ACTION, _DEFAULT, _LINE, _LATER, _ROWS, _ROW_SIZE = (
    b_.SIGNAL_ACTION, b_.SIGNAL_DEFAULT, b_.SIGNAL_LINE, b_.SIGNAL_LATER, b_.SIGNAL_ROWS, b_.SIGNAL_ROW_SIZE,
)  # fmt: skip
_SIGNAL, _VCPU, _RIP, _BYTES = (ord(c) for c in (b_.LINE_SIGNAL, b_.LINE_VCPU, b_.LINE_RIP, b_.LINE_BYTES))
_ENV, _CPU, _NUMBER, _F_RESTORE_STATE, _LAST_WORDS = b_.ENV, b_.CPU, b_.NUMBER, b_.F_RESTORE_STATE, b_.LAST_WORDS
_EIP, _CS_BASE = l_.EIP, l_.SEGS + l_.SEG_SIZE * l_.CS + l_.SEG_BASE
_SI_CODE = 8  # siginfo_t: greater than 0 for what an instruction caused, else somebody has sent the signal
_STACK, _PLACE = 160, 168  # RSP and RIP in ucontext_t
_SA_FLAGS, _SA_SIGINFO, _SA_RESETHAND = 136, 4, 0x80000000  # struct sigaction
_SIG_DFL, _SIG_IGN = 0, 1
_CALL = 2  # what cpu_restore_state takes off a return address, to come into the call
_DEEPEST = 1024  # words: more than the frames of a helper, less than what stands above a running guest on any stack
_LONGEST = 15  # bytes of an instruction
_STDERR = 2


@kernel
def _text(to, text):  # type: ignore[no-untyped-def]
    while ld8(text):
        st8(to, ld8(text))
        to += 1
        text += 1
    return to


@kernel
def _hexadecimal(to, value, digits):  # type: ignore[no-untyped-def]
    for n in range(digits):
        digit = (value >> (4 * (digits - 1 - n))) & 15
        st8(to + n, digit + (48 if digit < 10 else 87))
    return to + digits


@kernel
def _decimal(to, value):  # type: ignore[no-untyped-def]
    unit = 100
    while unit:
        if value >= unit or unit == 1:
            st8(to, 48 + value // unit % 10)
            to += 1
        unit = unit // 10
    return to


@kernel
def _bytes(to, b):  # type: ignore[no-untyped-def]
    """What lies at RIP, as far as it can be fetched, and as long as an instruction can be."""
    env = ld64(b + _ENV)
    at = ld64(env + _CS_BASE) + ld64(env + _EIP)
    for n in range(_LONGEST):
        byte = fetch(b, at, n)
        if byte < 0:
            break
        st8(to, 32)
        to = _hexadecimal(to + 1, byte, 2)
    return to


@kernel
def _is_return(place):  # type: ignore[no-untyped-def]
    """Whether a CALL ends there, in one of the three forms that generated code has."""
    if ld8(place - 5) == 0xE8 or ld16(place - 6) == 0x15FF:
        return 1
    return 1 if ld16(place - 2) & 0xF8FF == 0xD0FF else 0


@kernel
def _find_rip(b, context):  # type: ignore[no-untyped-def]
    """Make RIP exact: by the place in generated code, or by the first return address on the stack that leads there.

    Whether it was found. It is not where another handler sends the signal on from a stack of its own; RIP then is where
    the CPU state was complete last, at the beginning of a block or behind it.
    """
    restore, cpu, env = ld64(b + _F_RESTORE_STATE), ld64(b + _CPU), ld64(b + _ENV)
    before = ld64(env + _EIP)
    if call3(restore, cpu, ld64(context + _PLACE) + _CALL, 0) & 0xFF:
        return 1
    stack = ld64(context + _STACK)
    for n in range(_DEEPEST):
        place = ld64(stack + 8 * n)
        if call3(restore, cpu, place, 0) & 0xFF and _is_return(place):
            return 1
    st64(env + _EIP, before)
    return 0


@kernel
def _say(table, b, context, name):  # type: ignore[no-untyped-def]
    st64(table + _SPOKEN, 1)
    exact = _find_rip(b, context)
    line = ld64(table + _LINE)
    to = line
    at = ld64(b + _LAST_WORDS)
    while ld8(at):
        character = ld8(at)
        if character == _RIP:
            to = _hexadecimal(to, ld64(ld64(b + _ENV) + _EIP), 16)
            if not exact:
                to = _text(to, ld64(table + _LATER))
        elif character == _VCPU:
            to = _decimal(to, ld64(b + _NUMBER))
        elif character == _BYTES:
            to = _bytes(to, b)
        elif character == _SIGNAL:
            to = _text(to, name)
        else:
            st8(to, character)
            to += 1
        at += 1
    return call3(ld64(table + _WRITE), _STDERR, line, to - line)


@kernel
def on_signal(number, info, context, table):  # type: ignore[no-untyped-def]
    """The signal handler; ``table`` comes from the piece of code before it (`interpose`)."""
    b = running(ld64(table + _GUARD))
    if lost(table, number, info, b):
        return 0
    row = table + _ROWS
    while ld64(row) != number:
        row += _ROW_SIZE
    if b and ld64(table + _SPOKEN) == 0:
        _say(table, b, context, ld64(row + 8))
    previous = ld64(row + 16)
    handler = ld64(previous)
    sent = ld32(info + _SI_CODE) == 0 or ld32(info + _SI_CODE) >> 31
    if handler == _SIG_IGN and sent:
        return 0
    if handler == _SIG_DFL or handler == _SIG_IGN:
        call3(ld64(table + _ACTION), number, ld64(table + _DEFAULT), 0)
        if sent:
            call1(ld64(table + _RAISE), number)
        return 0  # what the instruction caused it causes again
    if ld32(previous + _SA_FLAGS) & _SA_RESETHAND:
        call3(ld64(table + _ACTION), number, ld64(table + _DEFAULT), 0)
    if ld32(previous + _SA_FLAGS) & _SA_SIGINFO:
        return call3(handler, number, info, context)
    return call1(handler, number)
