# The stack has no room below it but the page tables, and a handler's address is wrong.
.include "start64.inc"
main:
    gate 14, 0x7000001000
    call page_directory
    lea rsp, [rax + 0x40]
    mov rbx, 0x200000000
    mov [rbx], eax
    ret
