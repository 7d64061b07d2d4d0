"""A guest that looks at what its TLB holds: it clears accessed and dirty bits without a flush, uses the pages, and adds
up what it sees then. Whatever flushes the TLB besides the guest itself changes the sum.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import hypervisor as hv
from hypervisor.assembler import Image, assemble
from hypervisor.machine.bare import GDT, prepare
from tests.core.bare import with_idt

CODE, STACK, TABLES, FRAMES = 0x100000, 0x111000, 0x140000, 0x180000
MEMORY, LARGE = "4M", 0x200000
"""Its second half is for large pages."""
WINDOW, PAGES, FRAME_COUNT = 0x40000000, 1024, 64
"""Linear pages that the guest uses; they share few frames, which begin with code."""
_FUNCTION, _ALIAS = bytes.fromhex("4589b200090000c3"), FRAME_COUNT
"""What is in each frame: ``mov [r10 + 0x900], r14d; ret``; and the bit of a page's number that leads to another page of
its frame."""
_VIEWS, _APART = 4, 26
"""The window shows so often, at addresses so far apart (as a shift) that they want the same place in a TLB. In another
guest the last view is of large pages, which the TLB has in pieces.
"""
IDT = 0x60000  # where `with_idt` puts it
_PRESENT, _ACCESSED, _DIRTY, _LARGE = 7, 0x20, 0x40, 0x80
_USER_DATA, _USER_CODE, _TSS = 0x18 | 3, 0x20 | 3, 0x28
_TSS_AT, _INNER_STACK = 0x62000, 0x113000
_FAR, _FAR_TABLE = 0x1008 | 3, GDT + 0x1000
"""A segment in a page of the GDT that nothing else needs."""
_LOW, _WINDOW_TABLES = TABLES + 0x3000, TABLES + 0x5000
_CLEAR = f"and qword ptr [{{}}], {~_ACCESSED}"

_GUEST = f"""
    mov rbp, 6364136223846793005
next:
    imul r14, rbp
    add r14, 1442695040888963407 >> 32
    mov rax, r14
    shr rax, 33
    mov ecx, eax
    and ecx, {PAGES - 1}
    shr rax, 10
    lea rsi, [{_WINDOW_TABLES} + rcx * 8]   # the page's entry
    mov rdi, rcx
    shl rdi, 12
    add rdi, {WINDOW}                       # the page
    mov edx, eax
    and edx, 31
    shr rax, 5
    mov r9, rax
    and r9, {_VIEWS - 1}
    cmp r9d, LARGE_VIEW
    jne small
    shr ecx, 9
    lea rsi, [{TABLES + 0x4000 + 8 * (_VIEWS - 1 << _APART - 21)} + rcx * 8]
small:
    shl r9, {_APART}
    add rdi, r9
    shr rax, 2
    cmp edx, 8
    jb read
    cmp edx, 12
    jb write
    cmp edx, 21
    jb forget
    je forget_own
    cmp edx, 23
    jb call_it
    je forget_tables
    cmp edx, 25
    jb interrupt
    je descriptor
    cmp edx, 29
    jb forget_written
    jne look
    test al, 7
    je flush
    invlpg [rdi]
    jmp look
read:
    mov r8, [rdi + 0x808]
    jmp look
write:
    mov [rdi + 0x810], r14d
    jmp look
forget:
    {_CLEAR.format("rsi")}
    jmp look
forget_written:
    and qword ptr [rsi], {~(_ACCESSED | _DIRTY)}
    jmp look
forget_own:                                 # its code, its stack, the tables that the processor reads
    {_CLEAR.format(_LOW + 8 * (CODE >> 12))}
    {_CLEAR.format(_LOW + 8 * ((CODE >> 12) + 1))}
    {_CLEAR.format(_LOW + 8 * (STACK - 1 >> 12))}
    {_CLEAR.format(_LOW + 8 * (IDT >> 12))}
    {_CLEAR.format(_LOW + 8 * (GDT >> 12))}
    call far_away
    jmp look
forget_tables:
    {_CLEAR.format(_LOW + 8 * (_WINDOW_TABLES >> 12))}
    {_CLEAR.format(TABLES + 0x4000)}
    jmp look
call_it:                                    # code that stores into its own frame, by another page
    and ecx, {_ALIAS | 7}
    lea rsi, [{_WINDOW_TABLES} + rcx * 8]
    mov rdi, rcx
    shl rdi, 12
    add rdi, {WINDOW}
    mov r10, rdi
    xor r10, {_ALIAS << 12}
    call rdi
    {_CLEAR.format("rsi")}
    xor ecx, {_ALIAS}
    {_CLEAR.format(f"{_WINDOW_TABLES} + rcx * 8")}
    jmp look
interrupt:
    int 0x80
    mov r8, [{_FAR_TABLE}]
    jmp look
descriptor:
    mov ecx, 0x10
    mov fs, cx
    mov r12, rsp
    mov r11, as_program
    push {_USER_DATA}
    push r12
    pushfq
    push {_USER_CODE}
    push r11
    iretq
as_program:                                 # LSL reads the descriptor as the processor, whoever executes it
    mov ecx, {_FAR}
    lsl eax, ecx
    mov r8, [rdi + 0x820]
    {_CLEAR.format(_LOW + 8 * (GDT >> 12))}
    {_CLEAR.format(_LOW + 8 * (_FAR_TABLE >> 12))}
    int 0x81
as_system:
    mov rsp, r12
    mov r8, [{GDT}]
    jmp look
flush:
    mov rax, cr3
    mov cr3, rax
look:
    rol r13, 7
    xor r13, [rsi]
    add r13, [{_LOW + 8 * (CODE >> 12)}]
    rol r13, 5
    add r13, [{_LOW + 8 * ((CODE >> 12) + 1)}]
    rol r13, 5
    add r13, [{_LOW + 8 * (STACK - 1 >> 12)}]
    rol r13, 5
    add r13, [{_LOW + 8 * (IDT >> 12)}]
    rol r13, 5
    add r13, [{_LOW + 8 * (GDT >> 12)}]
    rol r13, 5
    add r13, [{_LOW + 8 * (_FAR_TABLE >> 12)}]
    rol r13, 5
    add r13, [{_LOW + 8 * (_WINDOW_TABLES >> 12)}]
    add r13, [{TABLES + 0x4000}]
    dec r15
    jnz next
    cli
    hlt
    .org {CODE + 0x1000}
far_away:
    ret
"""


@cache
def _image(large: bool) -> Image:
    return assemble(_GUEST.replace("LARGE_VIEW", str(_VIEWS - 1 if large else _VIEWS)), origin=CODE, mode=64)


def _tables(large: bool) -> bytes:
    """Identity for 2 MiB in small pages, and the window."""
    tables = [bytearray(4096) for _ in range(5 + PAGES // 512)]

    def put(table: int, index: int, gpa: int) -> None:
        struct.pack_into("<Q", tables[table], 8 * index, gpa | _PRESENT)

    put(0, 0, TABLES + 0x1000)
    put(1, 0, TABLES + 0x2000)
    put(1, 1, TABLES + 0x4000)
    put(2, 0, TABLES + 0x3000)
    for n in range(512):
        put(3, n, n << 12)
    for view in range(_VIEWS):
        for n in range(PAGES // 512):
            leads_to = LARGE | _LARGE if large and view == _VIEWS - 1 else _WINDOW_TABLES + 0x1000 * n
            put(4, (view << _APART >> 21) + n, leads_to)
    for n in range(PAGES):
        put(5 + n // 512, n % 512, FRAMES + 0x1000 * (n * 37 % FRAME_COUNT))
    return b"".join(tables)


def _give_rings(vm: hv.VM, back: int) -> None:
    """Segments of ring 3, and INT 81h from there to ``back``."""
    user = struct.pack("<QQ", 0x00CFF3000000FFFF, 0x00AFFB000000FFFF)
    tss = struct.pack("<HHBBBBII", 0x67, _TSS_AT & 0xFFFF, _TSS_AT >> 16, 0x8B, 0, 0, 0, 0)
    vm.memory.write(GDT + 0x18, user + tss)
    vm.memory.write(_TSS_AT + 4, struct.pack("<Q", _INNER_STACK))
    gate = struct.pack("<HHBBHII", back & 0xFFFF, 8, 0, 0xEE, back >> 16, 0, 0)
    vm.memory.write(IDT + 16 * 0x81, gate)
    vm.memory.write(GDT + (_FAR & ~7), user[:8])
    vm.vcpu.gdtr = hv.Table(GDT, 0x100F)
    vm.vcpu.tr = hv.Segment(_TSS, _TSS_AT, 0x67, 0x8B)


@contextmanager
def watcher(host: hv.Host, rounds: int, seed: int = 1, clock: str = "virtual", large: bool = False) -> Iterator[hv.VM]:
    """The guest, before its first instruction; with ``large`` pages, too."""
    image = _image(large)
    with hv.VM(host, hv.MachineConfig(memory=MEMORY, name="accessed", clock=clock)) as vm:
        prepare(vm, image.code, 64, CODE, STACK)
        with_idt(vm, {0x80: "iretq"})
        _give_rings(vm, image.symbols["as_system"])
        vm.memory.write(TABLES, _tables(large))
        for n in range(FRAME_COUNT):
            vm.memory.write(FRAMES + 0x1000 * n, _FUNCTION)
        vm.vcpu.cr3 = TABLES
        vm.vcpu.set("r13", 0)
        vm.vcpu.set("r14", seed)
        vm.vcpu.set("r15", rounds)
        yield vm


def outcome(vm: hv.VM, result: hv.RunResult) -> tuple[Any, ...]:
    """All that a run leaves behind; by the wall clock without its time."""
    digest = hashlib.sha256(vm.memory.read(0, vm.memory.size)).hexdigest()
    return (
        result.reason,
        vm.vcpu.get("r13"),
        0 if vm.clock.wall else vm.vcpu.position,
        vm.vcpu.rip,
        dict(result.exits),
        digest,
    )
