# A system call of ring 3 passes an address that is not mapped.
.include "start64.inc"
main:
    call load_tss
    gate 0x80, on_system_call
    mov byte ptr [idt + 16 * 0x80 + 5], 0xee    # for ring 3
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
    mov rdi, 0x4000000000
    int 0x80
    jmp user
on_system_call:
    push rbp
    mov rbp, rsp
    call copy
    pop rbp
    iretq
copy:
    push rbp
    mov rbp, rsp
    mov al, [rdi]
    pop rbp
    ret
