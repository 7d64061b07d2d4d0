"""An interrupt request that the guest takes back before it lets interrupts in is not delivered."""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.vm.vm import VM

GUEST = """
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7000
    mov di, ax
vectors:                        # every vector tells
    mov ax, taken
    stosw
    xor ax, ax
    stosw
    cmp di, 0x400
    jb vectors
    mov al, 0x11                # both 8259s, from vector 20h and 28h, IRQ 0 open
    out 0x20, al
    out 0xa0, al
    mov al, 0x20
    out 0x21, al
    mov al, 0x28
    out 0xa1, al
    mov al, 4
    out 0x21, al
    mov al, 2
    out 0xa1, al
    mov al, 1
    out 0x21, al
    out 0xa1, al
    mov al, 0xfe
    out 0x21, al
    mov al, 0x34                # the timer, every 4 ms
    out 0x43, al
    mov al, 0
    out 0x40, al
    mov al, 0x12
    out 0x40, al
requested:
    in al, 0x20
    test al, 1
    jz requested
    mov cx, 1000                # the request stands while blocks of code begin
busy:
    nop
    loop busy
    mov al, 0xff
    out 0x21, al                # and now it does not
    sti
    nop
    nop
    cli
    mov al, 0x2e
    out 0xe9, al
    hlt
taken:
    mov al, 0x21
    out 0xe9, al
    cli
    hlt
"""
IMAGE = assemble(GUEST, origin=0x1000, mode=16).code


def _boot(board: hv.Board) -> VM:
    return hv.boot(IMAGE, memory="1M", format="flat", at=0x1000, mode=16, board=board)


@pytest.mark.parametrize("board", [hv.pc(), hv.pc().without("lapic").without("ioapic")], ids=["lapic", "8259"])
def test_masking_a_request_withdraws_it(board: hv.Board) -> None:
    with _boot(board) as vm:
        result = vm.run(virtual_timeout=1)
        assert result.reason is hv.Reason.HALTED, result.message
        assert vm.debugcon.text == "."
        assert "interrupt" not in result.exits
