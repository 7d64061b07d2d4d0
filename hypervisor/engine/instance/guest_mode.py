"""Into guest mode: a VMCB (APM volume 2, appendix B), and VMRUN, executed once.

From then on the CPU stays in guest mode, and every vCPU is a saved state.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

from hypervisor.arch import vmexit_codes as code_
from hypervisor.arch.exits import ExitKind
from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.engine.interposition.native import native
from hypervisor.errors import EngineError
from hypervisor.units import FOREVER_NS

_CONTROL = 1 << 40  # host-physical address of the pages below, out of every guest's reach
_STUB, _VMCB, _HSAVE, _MSRPM, _IOPM, _CONTROL_SIZE = 0x0, 0x1000, 0x2000, 0x4000, 0x8000, 0x10000

ALWAYS_INTERCEPTED = sum(
    1 << code_.intercept_bit(code)
    for code in (
        code_.VINTR, code_.CPUID, code_.SWINT, code_.HLT, code_.INVLPG, code_.INVLPGA, code_.MSR, code_.SHUTDOWN,
        code_.VMRUN, code_.VMMCALL, code_.VMLOAD, code_.VMSAVE, code_.STGI, code_.CLGI, code_.SKINIT, code_.RDTSCP,
        code_.RDTSC, code_.PAUSE,  # which would end the block without a single-step trap
    )
)  # fmt: skip
"""Of the VMCB's intercept words, the two from offset 00Ch on."""
CR_READS, CR_WRITES = 1 << 8, 1 << 0 | 1 << 4 | 1 << 8
"""Control registers that are always intercepted, a bit for each: CR8; CR0, CR4 and CR8. CR3 stays native."""


def control_pages(uc: Any) -> mmap.mmap:
    """The pages that VMRUN reads, in an instance's host-physical memory. They must live as long as the instance."""
    control = mmap.mmap(-1, _CONTROL_SIZE)
    control[_STUB : _STUB + 4] = b"\x0f\x01\xd8\xf4"  # vmrun; hlt
    for start in (_MSRPM, _IOPM):
        control[start : start + 0x2000] = b"\xff" * 0x2000

    def put(offset: int, size: int, value: int) -> None:
        control[_VMCB + offset : _VMCB + offset + size] = value.to_bytes(size, "little")

    put(0x000, 2, CR_READS)
    put(0x002, 2, CR_WRITES)
    put(0x004, 2, 0xFFFF)  # DR reads
    put(0x006, 2, 0xFFFF)  # DR writes
    put(0x008, 4, 0xFFFFFFFF)  # every exception
    put(0x00C, 8, ALWAYS_INTERCEPTED)
    put(0x040, 8, _CONTROL + _IOPM)
    put(0x048, 8, _CONTROL + _MSRPM)
    put(0x058, 4, 1)  # ASID
    save = 0x400
    for n, attributes in enumerate((0x93, 0x9B, 0x93, 0x93, 0x93, 0x93)):
        put(save + 16 * n + 2, 2, attributes)
        put(save + 16 * n + 4, 4, 0xFFFF)
    put(save + 0x0D0, 8, 1 << 12)  # EFER.SVME, or VMRUN would not be left by #VMEXIT as intercepts
    put(save + 0x160, 8, 0x400)  # DR7
    put(save + 0x168, 8, 0xFFFF0FF0)  # DR6
    put(save + 0x158, 8, 0x10)  # CR0
    put(save + 0x170, 8, 2)  # RFLAGS
    start = ctypes.addressof(ctypes.c_char.from_buffer(control))
    uc.mem_map_ptr(_CONTROL, _CONTROL_SIZE, native().unicorn.UC_PROT_ALL, start)
    return control


def enter(uc: Any, words: memoryview[int]) -> None:
    """Execute VMRUN on an instance with `control_pages`, whose block is filled. Raises `EngineError` if that is not
    where it should be then.
    """
    const = native().unicorn.x86_const
    uc.reg_write(const.UC_X86_REG_CR4, uc.reg_read(const.UC_X86_REG_CR4) | 0x30)
    uc.msr_write(0xC0000080, 0x1D01)
    uc.msr_write(0xC0010117, _CONTROL + _HSAVE)
    uc.reg_write(const.UC_X86_REG_RAX, _CONTROL + _VMCB)
    emu_start = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint64] * 5)(native().address("uc_emu_start"))
    # the stub is the block that starts before the deadline of 1; the guest's first block starts after it
    failure = emu_start(words[b.UC >> 3], _CONTROL + _STUB, 0, 0, 0)
    env = words[b.ENV >> 3]
    hflags = ctypes.c_uint32.from_address(env + layout.HFLAGS)
    if failure or not hflags.value & layout.HF_GUEST or words[b.X_KIND >> 3] != ExitKind.DEADLINE:
        raise EngineError(
            f"VMRUN did not enter guest mode (error {failure}, hidden flags {hflags.value:#x}): this build of "
            f"Unicorn is not one that works. Install unicorn=={layout.UNICORN_VERSIONS[-1]} from PyPI."
        )
    hflags.value &= ~(1 << 20)  # SVME: the guest's SVM instructions are undefined, and arrive as #UD
    efer = ctypes.c_uint64.from_address(env + layout.EFER)
    efer.value &= ~(1 << 12)
    task = ctypes.c_uint32.from_address(env + layout.TR + layout.SEG_FLAGS)
    task.value = 0x8900  # see State.set_segment: the reset value is a busy TSS
    words[b.NOW >> 3] = 0
    words[b.NEXT >> 3] = FOREVER_NS
    words[b.INTERCEPTS >> 3] = ctypes.c_uint64.from_address(env + layout.INTERCEPT).value
