# Another process's page tables, which do not map the kernel.
.include "start64.inc"
main:
    mov rax, cr0
    bts rax, 16                 # CR0.WP
    mov cr0, rax
    mov rdi, 0x200000
    mov rcx, 512
    xor eax, eax
    rep stosq
    mov rbx, 0x200000
    mov cr3, rbx
    ret
