# The page fault handler returns with the error code still on the stack.
.include "start64.inc"
main:
    gate 14, on_page_fault
    mov rbx, 0x200000000
    mov [rbx], eax
    ret
on_page_fault:
    push rax
    mov rax, cr2
    pop rax
    iretq
