"""Non-maskable interrupts: taken with interrupts off, blocked until IRET."""

from __future__ import annotations

import struct
from contextlib import closing
from itertools import pairwise

import pytest

import hypervisor as hv
from hypervisor._face import CODE
from hypervisor.assembler import assemble
from hypervisor.debug.disasm import disassemble
from tests.core.bare import HANDLERS, bare, with_idt

GUEST = """
.code16
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7000
    mov word [8], handler
    mov word [10], 0
    cli
    out 0x90, al                # the host pulses NMI here
wait_for_two:
    cmp byte [0x600], 2
    jb wait_for_two
    hlt
handler:
    inc byte [0x600]
    cmp byte [0x600], 1
    jne done
    out 0x91, al                # and here again, while the first is being handled
    mov cx, 100
spin:
    dec cx
    jnz spin
    mov al, [0x600]
    mov [0x601], al             # the second must not have come yet
done:
    iret
"""


def test_an_nmi_is_taken_with_interrupts_off_and_the_next_waits_for_iret() -> None:
    image = assemble(GUEST, origin=0x1000, mode=16).code
    with closing(hv.boot(image, memory="1M", format="flat", at=0x1000, mode=16)) as vm:

        @vm.traps.port_out(range(0x90, 0x92))
        def pulse(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vm.nmi()
            return hv.HANDLED

        result = vm.run(timeout=10, virtual_timeout=1)
        assert result.reason is hv.Reason.HALTED, result.message
        assert vm.memory.read(0x600, 2) == bytes((2, 1))
        assert not vm.vcpu.registers.nmi_blocked


BEHIND = "inc eax"
"""The instruction that an NMI waits for, and nothing else in the code below."""
SHADOWS = {
    16: f"nop; mov ss, dx; {BEHIND}; nop; push ss; pop ss; {BEHIND}; nop; sti; {BEHIND}; nop; nop; cli; hlt",
    64: f"nop; mov ss, edx; {BEHIND}; nop; mov ss, edx; {BEHIND}; nop; sti; {BEHIND}; nop; nop; cli; hlt",
}


@pytest.mark.parametrize("mode", SHADOWS)
@pytest.mark.parametrize("handlers", [False, True], ids=["native", "with a handler there"])
def test_an_nmi_waits_for_the_instruction_behind_a_load_of_ss_and_sti(mode: int, handlers: bool) -> None:
    """Between SS and SP there is no stack (APM volume 3, MOV and POP; SDM volume 3A, 6.8.3); STI the same."""
    lines = disassemble(assemble(SHADOWS[mode], origin=CODE, mode=mode).code, CODE, mode)
    behind = {line.address for line in lines if line.text == BEHIND}
    assert len(behind) == 3
    seen = set()
    for at in range(lines[-1].address - CODE + 1):
        with bare(SHADOWS[mode], mode, rdx=0x10 if mode == 64 else 0) as vm:
            if mode == 64:
                with_idt(vm, {2: "mov rbx, [rsp]; hlt"})
            else:
                vm.memory.write(8, struct.pack("<HH", HANDLERS & 0xFFFF, HANDLERS >> 4 & 0xF000))
                vm.memory.write(HANDLERS, assemble("pop bx; hlt", origin=0, mode=16).code)
            if handlers:
                for address in behind:
                    vm.traps.execute(address)(lambda vcpu, exit: hv.PASS)
            vm.clock.call_at(at, vm.nmi)
            result = vm.run(virtual_timeout=1)
            assert result.reason is hv.Reason.HALTED, result.message
            seen.add(CODE | result.rbx)
    assert not seen & behind
    assert seen >= {line.address for before, line in pairwise(lines) if before.address in behind}
