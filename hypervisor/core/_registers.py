"""The registers of a vCPU as attributes, for the type checker: `hypervisor.core.vcpu` makes them from tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypervisor.engine.state import Segment, Table


class Registers:
    """Names that a vCPU has. Whole registers are 64 bits; writing a 32-bit part clears the upper half, as code does."""

    rax: int
    rcx: int
    rdx: int
    rbx: int
    rsp: int
    rbp: int
    rsi: int
    rdi: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    rip: int
    rflags: int
    efer: int
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    dr0: int
    dr1: int
    dr2: int
    dr3: int
    dr6: int
    dr7: int
    eflags: int
    eip: int
    ip: int
    eax: int
    ax: int
    al: int
    ah: int
    ebx: int
    bx: int
    bl: int
    bh: int
    ecx: int
    cx: int
    cl: int
    ch: int
    edx: int
    dx: int
    dl: int
    dh: int
    esp: int
    sp: int
    spl: int
    ebp: int
    bp: int
    bpl: int
    esi: int
    si: int
    sil: int
    edi: int
    di: int
    dil: int
    r8d: int
    r8w: int
    r8b: int
    r9d: int
    r9w: int
    r9b: int
    r10d: int
    r10w: int
    r10b: int
    r11d: int
    r11w: int
    r11b: int
    r12d: int
    r12w: int
    r12b: int
    r13d: int
    r13w: int
    r13b: int
    r14d: int
    r14w: int
    r14b: int
    r15d: int
    r15w: int
    r15b: int
    es: Segment
    cs: Segment
    ss: Segment
    ds: Segment
    fs: Segment
    gs: Segment
    ldtr: Segment
    tr: Segment
    gdtr: Table
    idtr: Table
