# Ring 3 makes a system call, and nobody has loaded a TSS.
.include "start64.inc"
main:
    gate 0x80, on_call
    mov byte ptr [idt + 16 * 0x80 + 5], 0xee
    mov rax, cr3                # let ring 3 see the first 2 MiB
    or byte ptr [rax], 4
    mov rax, [rax]
    and rax, -4096
    or byte ptr [rax], 4
    call page_directory
    or byte ptr [rax], 4
    mov rax, cr3
    mov cr3, rax
    push 0x23
    push stack_top - 2048
    push 2
    push 0x1b
    push user
    iretq
user:
    int 0x80
    jmp user
on_call:
    iretq
