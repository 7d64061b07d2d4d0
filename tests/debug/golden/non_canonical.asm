# A pointer with garbage in its upper half.
.include "start64.inc"
main:
    mov rbx, 0x1000000b8000
    shl rbx, 4
    mov byte ptr [rbx + 2], 'x'
    ret
