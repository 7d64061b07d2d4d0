"""Kernels find a PC's BIOS, whatever loads them: its data area, its vectors, and a reset where a PC has it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.boot import images

BASE, LOW = 0x100000, 0x7000

RESET = f"""
    lgdt [gdt_pointer]
    mov esi, low
    mov edi, {LOW:#x}
    mov ecx, 64
    rep movsb
    jmp 8:{LOW:#x}
low:
.code16
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    jmp 0xffff:0
.align 8
gdt:
    .qword 0, 0x00009a000000ffff
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .dword gdt
"""
"""From protected mode to real mode and to the reset vector, as Linux goes with reboot=b."""


@pytest.mark.parametrize("make", [images.elf, images.multiboot1_elf, images.multiboot2_elf])
def test_a_jump_to_the_reset_vector_resets(make: Callable[..., bytes]) -> None:
    code = assemble(RESET, origin=BASE, mode=32).code
    with closing(hv.boot(make(parts=[images.Part(BASE, code)]), memory="4M")) as vm:
        assert vm.memory.read(0x413, 2) == (639).to_bytes(2, "little")  # KiB of conventional memory
        result = vm.run(virtual_timeout=1)
    assert result.reason is hv.Reason.RESET, result.message


def test_an_init_of_the_first_processor_resets() -> None:
    code = assemble("again: jmp again", origin=BASE, mode=32).code
    with closing(hv.boot(images.elf(parts=[images.Part(BASE, code)]), memory="4M", cpus=2)) as vm:
        vm.vcpu.init()
        assert vm.vcpu.linear_rip == 0xFFFFFFF0
        result = vm.run(virtual_timeout=1)
    assert result.reason is hv.Reason.RESET, result.message
