"""An interrupt that waits for STI is taken behind the one instruction in its shadow (AMD64 APM volume 3, STI), also
where that goes elsewhere by a return or a register.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.core.bare import bare

ROUNDS = 50
TAKEN, ELSEWHERE, EXPECTED = 0x600, 0x602, 0x604

GUEST = f"""
    cli
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7000
    mov [0x22], ax
    mov [{TAKEN}], ax
    mov [{ELSEWHERE}], ax
    mov word ptr [0x20], isr
    mov word ptr [{EXPECTED}], target
    mov al, 0x11                # the first 8259, from vector 8, IRQ 0 open
    out 0x20, al
    mov al, 8
    out 0x21, al
    mov al, 4
    out 0x21, al
    mov al, 1
    out 0x21, al
    mov al, 0xfe
    out 0x21, al
    mov cx, {ROUNDS}
round:
    mov al, 0x30                # the timer, once
    out 0x43, al
    mov al, 100
    out 0x40, al
    xor al, al
    out 0x40, al
wait:
    in al, 0x20
    test al, 1
    jz wait
    mov bx, target
    mov sp, 0x6ff0
    mov [0x6ff0], bx
    WAY
target:
    call further                # these blocks are found without the run loop
    call further
    call further
    cli
    loop round
    hlt
further:
    ret
isr:
    push bp
    mov bp, sp
    mov bp, [bp + 2]
    inc word ptr [{TAKEN}]
    cmp bp, [{EXPECTED}]
    je end
    inc word ptr [{ELSEWHERE}]
end:
    mov al, 0x20
    out 0x20, al
    pop bp
    iret
"""
WAYS = {
    "ret": "sti; ret",
    "ret n": "sti; ret 2",
    "jump": "sti; jmp bx",
    "jump by memory": "sti; jmp [0x6ff0]",
    "call": "sti; call bx",
    "near jump": "sti; jmp target",
    "no jump": "sti; nop",
}


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_taken_behind_the_next_instruction(way: str, clock: str) -> None:
    """Beside a neighbour on the same pCPU, which takes it away at any block."""
    image = assemble(GUEST.replace("WAY", WAYS[way].replace("; ", "\n    ")), origin=0x1000, mode=16).code
    options: dict[str, Any] = {"memory": "1M", "format": "flat", "at": 0x1000, "mode": 16}
    with hv.Host("4M", 1) as host, bare("again: inc rbx; jmp again", host=host) as neighbour:
        vm = host.create_vm(image, clock=clock, **options)
        neighbour.start()
        result = vm.run(timeout=60)
        assert result.reason is hv.Reason.HALTED, result.message
        taken, elsewhere = struct.unpack("<HH", vm.memory.read(TAKEN, 4))
        assert (taken, elsewhere) == (ROUNDS, 0)
