# No handler removes its error code: each return faults, and the stack grows down over everything.
.include "start64.inc"
main:
    gate 14, on_fault
    gate 13, on_fault
    mov rbx, 0x200000000
    mov [rbx], eax
    ret
on_fault:
    iretq
