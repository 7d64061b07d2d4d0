# A boot sector that calls the BIOS from protected mode.
.include "start32.inc"
    mov ax, 0x0e41
    int 0x10
    hlt
