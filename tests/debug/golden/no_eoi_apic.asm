# The local APIC's timer interrupts, and its handler never writes the EOI register.
.include "start64.inc"
main:
    gate 0x40, on_timer
    mov ebx, 0xfee00000
    mov dword ptr [rbx + 0xf0], 0x1ff       # on, spurious vector 0xff
    mov dword ptr [rbx + 0x3e0], 0xb        # divide by 1
    mov dword ptr [rbx + 0x320], 0x20040    # periodic, vector 0x40
    mov dword ptr [rbx + 0x380], 1000000
    sti
idle:
    hlt
    jmp idle
on_timer:
    iretq
