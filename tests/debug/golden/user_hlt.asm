# Ring 3 halts the processor, as the kernel's own loop does.
.include "start64.inc"
main:
    call load_tss
    mov rax, cr3
    or byte ptr [rax], 4
    mov rax, [rax]
    and rax, -4096
    or byte ptr [rax], 4
    call page_directory
    or byte ptr [rax], 4
    mov rax, cr3
    mov cr3, rax
    push 0x23
    push 0x70000
    push 2
    push 0x1b
    push user
    iretq
user:
    hlt
    jmp user
