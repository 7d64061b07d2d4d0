# A boot sector whose double fault handler stops the machine, and is called by the timer.
.include "start32.inc"
    lidt [idt_pointer]
    mov word ptr [0x8000 + 8 * 8], on_double_fault
    mov dword ptr [0x8000 + 8 * 8 + 2], 8
    mov byte ptr [0x8000 + 8 * 8 + 5], 0x8e
    sti
idle:
    hlt
    jmp idle
on_double_fault:
    cli
    hlt
