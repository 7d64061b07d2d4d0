# Ring 3 is entered with the user bit in the highest table only.
.include "start64.inc"
main:
    call load_tss
    gate 14, panic
    mov rax, cr3
    or byte ptr [rax], 4
    mov cr3, rax
    mov word ptr [idt + 16 * 14 + 2], 0x10      # and the handler cannot be entered
    push 0x23
    push stack_top - 2048
    push 2
    push 0x1b
    push user
    iretq
user:
    jmp user
panic:
    hlt
