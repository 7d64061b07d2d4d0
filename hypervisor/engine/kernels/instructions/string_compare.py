"""PCMPESTRI, PCMPESTRM, PCMPISTRI and PCMPISTRM (AMD64 APM volume 4; Intel SDM volume 2, 4.1), instead of Unicorn's.

Unicorn takes the length -2147483648 as one that is smaller than 16 and reads before the operand, which kills the
process; of a 64-bit length it looks at the low half; and a substring that the end of the second operand cuts off, which
"equal ordered" finds, it does not find.
"""

from __future__ import annotations

from hypervisor.arch.flags import RFLAGS_CF, RFLAGS_OF, RFLAGS_SF, RFLAGS_ZF
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld16, ld64, st8, st16, st64

_RAX, _RCX, _RDX = l_.RAX, l_.RCX, l_.RDX
_XMM0, _CC_SRC = l_.XMM, l_.CC_SRC
_CF, _ZF, _SF, _OF = RFLAGS_CF, RFLAGS_ZF, RFLAGS_SF, RFLAGS_OF

INDEX, IMPLICIT = 1, 2
"""Bits of a form, as in the opcode: the result is an index in ECX, not a mask in XMM0; lengths end at a zero element.
"""
_WORDS, _SIGNED, _NEGATE, _VALID_ONLY, _LAST, _WIDE, _EACH, _SUBSTRINGS = 1, 2, 0x10, 0x20, 0x40, 0x100, 2, 3
"""Bits of the immediate, and two values of its bits 3:2; `_WIDE` is how Unicorn's translator passes REX.W on."""


@kernel
def _element(operand, n, control):  # type: ignore[no-untyped-def]
    """Without branches: a byte is the low half of two, of which the second may lie behind the operand."""
    words = control & _WORDS
    sign = (control & _SIGNED) << (6 + 8 * words)
    return ((ld16(operand + (n << words)) & ((0x100 << (8 * words)) - 1)) ^ sign) - sign


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
def _each(first, second, first_length, second_length, control):  # type: ignore[no-untyped-def]
    """Elements that are equal, or both beyond their ends."""
    count = 16 >> (control & _WORDS)
    found = 0
    for n in range(min(first_length, second_length)):
        found |= (1 if _element(first, n, control) == _element(second, n, control) else 0) << n
    return found | (1 << count) - (1 << max(first_length, second_length))


@kernel
def _among(first, second, first_length, second_length, control):  # type: ignore[no-untyped-def]
    """Elements of the second operand that lie in one of the first's ranges, or are one of the first: a range of one."""
    ranges = control >> 2 & 1
    found = 0
    for n in range(second_length):
        value = _element(second, n, control)
        i = 0
        while i + ranges < first_length:
            if _element(first, i, control) <= value <= _element(first, i + ranges, control):
                found |= 1 << n
                break
            i += 1 + ranges
    return found


@kernel
def _substrings(first, second, first_length, second_length, control):  # type: ignore[no-untyped-def]
    """Where the first string stands in the second, as far as the operand goes."""
    count = 16 >> (control & _WORDS)
    found = 0
    for n in range(count):
        i = 0
        last = min(first_length, count - n)
        while i < last and n + i < second_length and _element(first, i, control) == _element(second, n + i, control):
            i += 1
        found |= (1 if i == last else 0) << n
    return found


@kernel
def compare_strings(env, first, second, control, form):  # type: ignore[no-untyped-def]
    """One of the four instructions: operands and the CPU state as process addresses, the immediate, and the form."""
    count = 16 >> (control & _WORDS)
    if form & IMPLICIT:
        first_length, second_length = _implicit(first, control), _implicit(second, control)
    else:
        first_length, second_length = _explicit(env + _RAX, control), _explicit(env + _RDX, control)
    how = control >> 2 & 3
    if how == _EACH:
        found = _each(first, second, first_length, second_length, control)
    elif how == _SUBSTRINGS:
        found = _substrings(first, second, first_length, second_length, control)
    else:
        found = _among(first, second, first_length, second_length, control)
    if control & _NEGATE:
        found ^= (1 << (second_length if control & _VALID_ONLY else count)) - 1
    flags = (_ZF if second_length < count else 0) | (_SF if first_length < count else 0)
    st64(env + _CC_SRC, flags | (_CF if found else 0) | (_OF if found & 1 else 0))
    if form & INDEX:
        index = 0
        if control & _LAST:
            index = count - 1
            while index and found >> index & 1 == 0:
                index -= 1
        else:
            while index < count - 1 and found >> index & 1 == 0:
                index += 1
        st64(env + _RCX, index if found else count)
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
