# The gates name selector 0x10, as in a tutorial whose code segment is the second one.
.include "start64.inc"
main:
    gate 6, panic
    mov word ptr [idt + 16 * 6 + 2], 0x10
    ud2
panic:
    hlt
