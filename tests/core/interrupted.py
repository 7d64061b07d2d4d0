"""A guest that notes where its timer interrupts it: how often, at which instruction, and at which time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.sectors import ORIGIN, SIZE

COUNT, RING, RING_END, SUM = 0x600, 0x8000, 0x10000, 0x610
PERIODS = (23, 29, 31)
"""Of the timer, in ticks of 838 ns."""

_LONG = "; ".join(["inc bx", "dec di"] * 50)
"""More than goes into one block."""

_GUEST = f"""
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    mov word ptr [0x20], isr
    mov word ptr [0x22], ax
    mov word ptr [{COUNT}], ax
    mov word ptr [0x604], {RING}
    mov al, 0x34
    out 0x43, al
    mov al, PERIOD
    out 0x40, al
    xor al, al
    out 0x40, al
    mov esi, ROUNDS
    xor ebx, ebx
    sti
next:
    rdtsc
    add ebx, eax
    sgdt [0x620]
    mov ecx, [0x620]
    lea edi, [ecx + esi]
    pushf
    pop dx
    xor ebx, edi
    smsw cx
    rol ebx, 5
    add bx, cx
    mov [0x630], ebx
    mov al, bl
    out 0x80, al
    in al, 0x61
    add ebx, [0x630]
    sidt [0x620]
    rdtsc
    xor ebx, eax
    test ebx, 3
    jnz over
    mov cx, 5
    mov di, 0x700
    rep stosb
    str_: mov eax, cr0
    add ebx, eax
over:
    push bx
    pop dx
    call other
    mov [{SUM}], ebx
    dec esi
    jnz next
    cli
    mov dx, 0xf4
    mov al, 3
    out dx, al
other:
    rdtsc
    add ebx, eax
    ror ebx, 3
    {_LONG}
    ret
isr:
    push eax
    push bx
    push edx
    push bp
    mov bp, sp
    mov bx, [0x604]
    mov ax, [bp + 12]
    mov [bx], ax
    rdtsc
    mov [bx + 2], ax
    add bx, 4
    jnz keep
    mov bx, {RING}
keep:
    mov [0x604], bx
    inc word ptr [{COUNT}]
    mov al, 0x20
    out 0x20, al
    pop bp
    pop edx
    pop bx
    pop eax
    iret
"""


def image(rounds: int, period: int) -> tuple[bytes, list[int]]:
    """The boot sector, and where its instructions begin from the first one with interrupts on."""
    made = assemble(_GUEST.replace("ROUNDS", str(rounds)).replace("PERIOD", str(period)), origin=ORIGIN, mode=16)
    from hypervisor.debug.disasm import disassemble

    places = [line.address for line in disassemble(made.code, ORIGIN, 16) if line.address >= made.symbols["next"]]
    return made.code.ljust(SIZE - 2, b"\0") + b"\x55\xaa", places


@contextmanager
def guest(host: hv.Host, rounds: int, period: int = PERIODS[0]) -> Iterator[tuple[hv.VM, list[int]]]:
    """The VM before its first instruction, and where the guest's instructions begin."""
    sector, places = image(rounds, period)
    with host.create_vm(sector, memory="1M", name="interrupted") as vm:
        yield vm, places


def noted(vm: hv.VM, result: hv.RunResult) -> tuple[Any, ...]:
    """What the guest has seen, and the time."""
    assert result.reason is hv.Reason.DEBUG_EXIT, result.message
    count = int.from_bytes(vm.memory.read(COUNT, 2), "little")
    digest = hashlib.sha256(vm.memory.read(0, vm.memory.size)).hexdigest()
    return count, vm.memory.read(RING, min(4 * count, RING_END - RING)), vm.vcpu.position, digest
