# The limit given to LGDT is that of one entry.
.include "start64.inc"
main:
    mov word ptr [gdt_pointer], 7
    lgdt [gdt_pointer]
    gate 13, panic
    mov ax, 0x10
    mov ds, ax
    ret
panic:
    hlt
