# A boot sector that enters protected mode and lets interrupts in, with the PIC as the BIOS left it.
.include "start32.inc"
    lidt [idt_pointer]
    sti
idle:
    hlt
    jmp idle
