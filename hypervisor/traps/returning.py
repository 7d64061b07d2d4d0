"""Where a function returns to, and how its return is told from another's."""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.vcpu.processor import Processor

_MASK32 = 0xFFFF_FFFF


def returned(vcpu: Processor, popped: int) -> tuple[int, Callable[[Processor], bool]]:
    """For a vCPU at the first instruction of a function: the linear address behind the CALL, and whether a vCPU that
    is there comes from this call. Raises `GuestFault` where the return address cannot be read.
    """
    size = vcpu.mode // 8
    mask = (1 << vcpu.mode) - 1
    pointer = vcpu.rsp & mask
    stack = pointer if size == 8 else vcpu.ss.base + pointer & _MASK32
    offset = int.from_bytes(vcpu.read(stack, size), "little")
    address = offset if size == 8 else vcpu.cs.base + offset & _MASK32
    behind, user, space = pointer + size + popped & mask, vcpu.cpl == 3, vcpu.cr3

    def comes_from_it(at: Processor) -> bool:
        return at.rsp & mask == behind and (not user or (at.cpl == 3 and at.cr3 == space))

    return address, comes_from_it


__all__ = ["returned"]
