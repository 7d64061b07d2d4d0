"""REP INSW, whose elements Python moves many at once, while timers fire: every byte is the disk's, on both clocks."""

from __future__ import annotations

import hashlib
import random
from contextlib import ExitStack

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.core.bare import bare
from tests.core.test_wall_clock import PERIODIC, TICK
from tests.meanwhile import again_and_again, kick

SECTORS = 48
READS = f"""
{PERIODIC.format(count=200)}
    sti
    xor ebp, ebp
next:
    mov dx, 0x1f6
    mov al, 0xe0
    out dx, al
    mov dx, 0x1f2
    mov al, 1
    out dx, al
    inc dx
    mov ax, bp
    out dx, al
    inc dx
    mov al, 0
    out dx, al
    inc dx
    out dx, al
    mov dx, 0x1f7
    mov al, 0x20
    out dx, al
wait:
    in al, dx
    test al, 8
    jz wait
    mov ax, bp
    shl ax, 5
    add ax, 0x1000
    mov es, ax
    xor di, di
    mov dx, 0x1f0
    mov cx, 256
    cld
    rep insw
    inc bp
    cmp bp, {SECTORS}
    jb next
    cli
    hlt
{TICK}"""


def _ticks(clock: str, kicked: bool) -> int:
    """How many ticks came while all sectors were read, beside a neighbour on the same pCPU."""
    disk = random.Random(5).randbytes(512 * SECTORS)
    image = assemble(READS, origin=0x7C00, mode=16).code
    with hv.Host("16M", 1) as host, bare("again: inc rax; jmp again", host=host) as neighbour:
        with host.create_vm(image, memory="4M", clock=clock, disks=[disk]) as vm, ExitStack() as stack:
            neighbour.start()
            if kicked:
                stack.enter_context(again_and_again(lambda: kick(vm), 0.0003, random.Random(9)))
            result = vm.run(timeout=60)
            assert result.reason is hv.Reason.HALTED, result.message
            read = vm.memory.read(0x10000, len(disk))
            assert hashlib.sha256(read).digest() == hashlib.sha256(disk).digest()
            return vm.vcpu.rsi


@pytest.mark.parametrize("kicked", [False, True])
def test_by_the_wall_clock_every_byte_is_the_disks(kicked: bool) -> None:
    assert _ticks("wall", kicked) > 0


def test_by_the_virtual_clock_the_same_ticks_come_too() -> None:
    assert _ticks("virtual", False) == _ticks("virtual", True) > 0
