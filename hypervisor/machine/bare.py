"""A bare machine: a processor, memory and nothing else. What `hypervisor.run_asm` runs on."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from hypervisor.arch import flags as f
from hypervisor.arch import segments
from hypervisor.arch.segments import Segment, Table
from hypervisor.machine import cpuid_answers
from hypervisor.traps import builtin
from hypervisor.units import PAGE_MASK

if TYPE_CHECKING:
    from hypervisor.vm.vm import VM

INT3 = b"\xcc"
GDT, PAGE_TABLES = 0x1000, 0x2000
_CODE = {16: segments.CODE16, 32: segments.CODE32, 64: segments.CODE64}
_DATA = {16: segments.DATA16, 32: segments.DATA32, 64: segments.DATA32}


def prepare(vm: VM, code: bytes, mode: int, at: int, stack: int) -> None:
    """Put ``code`` into the guest and the vCPU at its first byte, in 16-, 32- or 64-bit mode with flat segments.

    The rest of its last page is INT3, which ends code without an end at once: zeros are instructions, too, and would be
    run to the end of memory. (In 16-bit mode an exception has a handler, at address 0 as everything is zero.)
    """
    builtin.install(vm.traps, vm.random, vm.note_unclaimed)
    cpuid_answers.install(vm)
    behind = 0 if mode == 16 else -(at + len(code)) & PAGE_MASK
    vm.memory.write(at, code + INT3 * behind)
    vm.memory.write(
        GDT, struct.pack("<QQQ", 0, 0x00AF9B000000FFFF if mode == 64 else 0x00CF9B000000FFFF, 0x00CF93000000FFFF)
    )
    vcpu = vm.vcpu
    vcpu.reset()
    registers = vcpu.registers
    for name in ("es", "ss", "ds", "fs", "gs"):
        registers.set_segment(
            name, Segment(0 if mode == 16 else 0x10, 0, 0xFFFF if mode == 16 else 0xFFFFFFFF, _DATA[mode])
        )
    if mode == 16:
        registers.set_segment("cs", Segment(at >> 4, at, 0xFFFF, _CODE[mode]))
        registers.set("rip", 0)
        registers.set("rsp", 0x7C00)
        registers.set("cr0", f.CR0_ET)
    else:
        registers.set_segment("cs", Segment(8, 0, 0xFFFFFFFF, _CODE[mode]))
        registers.set("rip", at)
        registers.set("rsp", stack)
        registers.set("cr0", f.CR0_PE | f.CR0_ET)
        registers.set_table("gdtr", Table(GDT, 23))
        registers.set_table("idtr", Table(0, 0))
    if mode == 64:
        vm.memory.write(PAGE_TABLES, struct.pack("<Q", (PAGE_TABLES + 0x1000) | 7))
        vm.memory.write(PAGE_TABLES + 0x1000, b"".join(struct.pack("<Q", n << 30 | 0x87) for n in range(4)))
        registers.set("cr3", PAGE_TABLES)
        registers.set("cr4", f.CR4_PAE | f.CR4_OSFXSR | f.CR4_OSXMMEXCPT)
        registers.set("efer", f.EFER_SCE | f.EFER_LME | f.EFER_LMA | f.EFER_NXE)
        registers.set("cr0", f.CR0_PE | f.CR0_ET | f.CR0_PG)
