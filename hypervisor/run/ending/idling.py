"""Whether a vCPU does nothing: jumps to itself, or pauses and jumps back to that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.errors import GuestFault

if TYPE_CHECKING:
    from hypervisor.vcpu.processor import Processor

_JMP_SHORT, _JMP_NEAR_16, _JMP_NEAR = b"\xeb\xfe", b"\xe9\xfd\xff", b"\xe9\xfb\xff\xff\xff"
"""``jmp $`` in its three encodings."""

_PAUSE, _JMP_TO_PAUSE = b"\xf3\x90", b"\xeb\xfc"
"""``pause``, and a jump to the one just before."""


def spins(vcpu: Processor) -> bool:
    """Whether the instruction at RIP is a jump to itself, or part of ``pause`` and a jump back to that."""
    rip = vcpu.linear_rip
    near = _JMP_NEAR_16 if vcpu.mode == 16 else _JMP_NEAR
    try:
        code = vcpu.read(rip, 2)
        return (
            code == _JMP_SHORT
            or (code == near[:2] and vcpu.read(rip, len(near)) == near)
            or (code == _JMP_TO_PAUSE and vcpu.read(rip - 2, 2) == _PAUSE)
            or (code == _PAUSE and vcpu.read(rip + 2, 2) == _JMP_TO_PAUSE)
        )
    except GuestFault:
        return False


def idles(vcpu: Processor) -> bool:
    """Whether a vCPU only spins, and nothing has come for it."""
    return spins(vcpu) and not (vcpu.intr.level or vcpu.nmi_pending)
