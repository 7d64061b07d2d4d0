"""Exceptions in real mode that no guest handles: the BIOS makes crash reports of them, and knows interrupts apart."""

from __future__ import annotations

import pytest

import hypervisor as hv
from tests.sectors import boot_sector

UART_INTERRUPT = """
    mov dx, 0x3fc
    mov al, 8            # OUT2
    out dx, al
    mov dx, 0x3f9
    mov al, 2            # the transmitter is empty: IRQ 4
    out dx, al
    mov al, 0
    out 0x21, al
    sti
    nop
    jmp next
next: mov al, 0x0b
    out 0x20, al
    in al, 0x20          # in service
    out 0xe9, al
    cli
    hlt
"""


def booted(source: str) -> hv.VM:
    return hv.boot(boot_sector(source), memory="4M")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("xor bx, bx; {here} div bx", "a divide error at 0000:7c02"),
        ("xor bx, bx; {here} ud2", "an invalid opcode at 0000:7c02"),
        ("mov eax, 0x80000000; {here} mov cr0, eax", "a general protection fault at 0000:7c06"),
    ],
)
def test_the_report_is_about_the_instruction(source: str, text: str) -> None:
    with booted(source.format(here="here:")) as vm:
        result = vm.run(timeout=30, virtual_timeout=1)
        assert result.reason is hv.Reason.CRASHED
        assert result.message.startswith(f"{text}, and the guest has put no handler behind interrupt vector")
        assert (vm.vcpu.rip, vm.vcpu.sp) == (int(text[-4:], 16), 0x7C00)
        with pytest.raises(hv.GuestCrashed, match="-> 0x7c0"):
            result.check()


def test_an_interrupt_with_the_number_of_an_exception_is_none() -> None:
    lines: list[str] = []
    with booted(UART_INTERRUPT) as vm:
        vm.log("int", to=lines.append)
        assert vm.run(timeout=30, virtual_timeout=1).reason is hv.Reason.HALTED
        assert any("interrupt 0xc" in line for line in lines)
        assert vm.debugcon.bytes == b"\0"
