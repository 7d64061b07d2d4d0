"""Non-maskable interrupts: taken with interrupts off, blocked until IRET."""

from __future__ import annotations

from contextlib import closing

import hypervisor as hv
from hypervisor.assembler import assemble

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
