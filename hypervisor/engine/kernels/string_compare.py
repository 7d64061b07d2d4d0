"""PCMPESTRI, PCMPESTRM, PCMPISTRI and PCMPISTRM (AMD64 APM volume 4; Intel SDM volume 2, 4.1), instead of Unicorn's.

Unicorn takes the length -2147483648 as one that is smaller than 16 and reads before the operand, which kills the
process; of a 64-bit length it looks at the low half; and a substring that the end of the second operand cuts off, which
"equal ordered" finds, it does not find.
"""

from __future__ import annotations

from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld8, ld16, ld64, st8, st16, st64

_RAX, _RCX, _RDX = l_.REGS, l_.REGS + 8, l_.REGS + 16
_XMM0, _CC_SRC = l_.XMM, l_.CC_SRC
_CF, _ZF, _SF, _OF = 0x001, 0x040, 0x080, 0x800

INDEX, IMPLICIT = 1, 2
"""Bits of a form, as in the opcode: the result is an index in ECX, not a mask in XMM0; lengths end at a zero element.
"""
_WORDS, _SIGNED, _ANY, _RANGES, _EACH, _NEGATE, _VALID_ONLY, _LAST, _WIDE = 1, 2, 0, 1, 2, 0x10, 0x20, 0x40, 0x100
"""Bits of the immediate, and the values of bits 3:2; `_WIDE` is how Unicorn's translator passes REX.W on."""


@kernel
def _element(operand, n, control):  # type: ignore[no-untyped-def]
    value, sign = ld8(operand + n), 0x80
    if control & _WORDS:
        value, sign = ld16(operand + 2 * n), 0x8000
    return (value ^ sign) - sign if control & _SIGNED else value


@kernel
def _explicit(register, control):  # type: ignore[no-untyped-def]
    """The absolute value of a length, at most as many elements as there are."""
    length = ld64(register)
    if control & _WIDE == 0:
        length = ((length & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
    most = 16 >> (control & _WORDS)
    if length > most or length < -most:
        return most
    return length if length >= 0 else -length


@kernel
def _implicit(operand, control):  # type: ignore[no-untyped-def]
    """How many elements stand before the first zero."""
    most = 16 >> (control & _WORDS)
    length = 0
    while length < most and _element(operand, length, control):
        length += 1
    return length


@kernel
def _matches(first, second, first_length, second_length, control, n):  # type: ignore[no-untyped-def]
    """Bit ``n`` of the result before negation (the manual's IntRes1)."""
    how = control >> 2 & 3
    if how == _EACH:
        if n >= first_length or n >= second_length:
            return 1 if n >= first_length and n >= second_length else 0
        return 1 if _element(first, n, control) == _element(second, n, control) else 0
    if how == _ANY or how == _RANGES:
        if n >= second_length:
            return 0
        value = _element(second, n, control)
        i = 0
        while i + how < first_length:
            low = _element(first, i, control)
            if how == _RANGES:
                if low <= value <= _element(first, i + 1, control):
                    return 1
            elif low == value:
                return 1
            i += 1 + how
        return 0
    i = 0
    while i < first_length and n + i < 16 >> (control & _WORDS):  # a substring, as far as the operand goes
        if n + i >= second_length or _element(first, i, control) != _element(second, n + i, control):
            return 0
        i += 1
    return 1


@kernel
def compare_strings(env, first, second, control, form):  # type: ignore[no-untyped-def]
    """One of the four instructions: operands and the CPU state as process addresses, the immediate, and the form."""
    count = 16 >> (control & _WORDS)
    if form & IMPLICIT:
        first_length, second_length = _implicit(first, control), _implicit(second, control)
    else:
        first_length, second_length = _explicit(env + _RAX, control), _explicit(env + _RDX, control)
    found = 0
    for n in range(count):
        found |= _matches(first, second, first_length, second_length, control, n) << n
    if control & _NEGATE:
        found ^= (1 << (second_length if control & _VALID_ONLY else count)) - 1
    flags = (_ZF if second_length < count else 0) | (_SF if first_length < count else 0)
    st64(env + _CC_SRC, flags | (_CF if found else 0) | (_OF if found & 1 else 0))
    if form & INDEX:
        index = count
        for n in range(count):
            if found >> n & 1 and (index == count or control & _LAST):
                index = n
        st64(env + _RCX, index)
    elif control & _LAST:  # a mask of whole elements
        for n in range(count):
            ones = -(found >> n & 1)
            if control & _WORDS:
                st16(env + _XMM0 + 2 * n, ones)
            else:
                st8(env + _XMM0 + n, ones)
    else:
        st64(env + _XMM0, found)
        st64(env + _XMM0 + 8, 0)
    return 0
