# A buffer is cleared that is longer than the room before the page tables.
.include "start64.inc"
main:
    mov rdi, cr3
    mov ecx, 512
    xor eax, eax
    rep stosq
    mov rax, cr3
    mov cr3, rax
    ret
