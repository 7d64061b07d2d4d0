"""The one gate to a frame that may be written, while a VM is on a pCPU.

Whatever stores to a guest's memory comes through here: the TLB's fill, accessed and dirty bits, the CPU's own accesses,
and Python for devices, loaders and handlers.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine.jit import kernel, ld64, st64
from hypervisor.engine.kernels.memory import frame_table
from hypervisor.engine.kernels.memory.frame_table import is_low
from hypervisor.engine.kernels.memory.notes import drop_shared
from hypervisor.memory import map_words as m_

_MAP, _FRAMES, _BASE = b_.MAP, b_.FRAMES, b_.MAP + m_.BASE
_NO_FRAME, _DEADLINE, _KICK, _KICKED = b_.NO_FRAME, b_.DEADLINE, b_.KICK, b_.KICKED
_FRAME, _LEAF_SHIFT, _IN_LEAF = m_.FRAME, m_.LEAF_SHIFT, m_.LEAF_PAGES - 1
_own_frame = frame_table.own


@kernel
def own(b, page):  # type: ignore[no-untyped-def]
    """Make the frame of a page of the base map the VM's own (`frame_table.own`) and take what showed the old one out of
    the TLB; the page's word, or 0, with the guest about to be left, if the host has no frame left. Where few are left
    and there is a swap file, the guest is left at the end of its block, as by a kick, and goes on when there is room.
    """
    leaf = ld64(ld64(b + _BASE) + 8 * (page >> _LEAF_SHIFT))
    before = ld64(leaf + 8 * (page & _IN_LEAF))
    word = _own_frame(ld64(b + _FRAMES), b + _MAP, page)
    if word == 0:
        st64(b + _NO_FRAME, 1)
        st64(b + _DEADLINE, 0)
    elif (word ^ before) & _FRAME:
        drop_shared(b, page)
        if is_low(ld64(b + _FRAMES)):
            st64(b + _KICK, _KICKED)
    return word


__all__ = ["own"]
