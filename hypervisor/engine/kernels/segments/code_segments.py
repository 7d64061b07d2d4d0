"""What every far transfer does with the code segment that it goes to (AMD64 APM volume 2, 4.8 and 4.10)."""

from __future__ import annotations

from hypervisor.arch.segments import SELECTOR
from hypervisor.arch.vectors import GP, NP
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld32, ld64
from hypervisor.engine.kernels.segments.descriptors import (
    canonical,
    descriptor,
    descriptor_limit,
    is_big,
    is_long,
    is_present,
    within_table,
)
from hypervisor.engine.kernels.stopping.in_place import refuse, refuse_nested

_ENV, _HFLAGS, _N_VECTOR, _LMA = b_.ENV, l_.HFLAGS, b_.N_VECTOR, l_.HF_LMA


@kernel
def long_mode(b):  # type: ignore[no-untyped-def]
    """Whether EFER.LMA is set: 64-bit or compatibility mode."""
    return ld32(ld64(b + _ENV) + _HFLAGS) & _LMA


@kernel
def named(b, selector):  # type: ignore[no-untyped-def]
    """The descriptor that the selector of a far transfer names; 0 where the instruction has been refused for it."""
    if selector & SELECTOR == 0:
        return refuse(b, GP, 0)
    if not within_table(b, selector):
        return refuse(b, GP, selector & SELECTOR)
    d = descriptor(b, selector)
    if ld64(b + _N_VECTOR) >= 0:
        return refuse_nested(b)
    if d == 0:  # no code segment, nor anything else
        return refuse(b, GP, selector & SELECTOR)
    return d


@kernel
def is_64_bit(b, d):  # type: ignore[no-untyped-def]
    """Whether code of this segment runs in 64-bit mode."""
    return long_mode(b) and is_long(d)


@kernel
def is_reserved(b, d):  # type: ignore[no-untyped-def]
    """Whether L and D are both set, which long mode reserves."""
    return long_mode(b) and is_long(d) and is_big(d)


@kernel
def refused_unless(b, selector, d, good):  # type: ignore[no-untyped-def]
    """Whether a descriptor may not be used: #GP unless it is good, #NP if it is not present. The instruction has been
    refused then.
    """
    if not good:
        refuse(b, GP, selector & SELECTOR)
        return True
    if is_present(d) == 0:
        refuse(b, NP, selector & SELECTOR)
        return True
    return False


@kernel
def refused_target(b, d, target):  # type: ignore[no-untyped-def]
    """Whether code of this segment cannot begin at ``target``: then the instruction has been refused."""
    if is_64_bit(b, d):
        if canonical(target):
            return False
    elif target >= 0 and target <= descriptor_limit(d):
        return False
    refuse(b, GP, 0)
    return True
