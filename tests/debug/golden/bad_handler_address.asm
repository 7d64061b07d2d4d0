# The upper half of a handler's address is missing in its gate: the first instruction of it faults, again and again.
.include "start64.inc"
main:
    gate 14, 0x7000001000
    mov rbx, 0x200000000
    mov [rbx], eax
    ret
