# The page fault handler removes the error code, and returns to a wrong code segment.
.include "start64.inc"
main:
    gate 14, on_page_fault
    mov rbx, 0x200000000
    mov [rbx], eax
    ret
on_page_fault:
    add rsp, 8
    mov qword ptr [rsp + 8], 0x20
    iretq
