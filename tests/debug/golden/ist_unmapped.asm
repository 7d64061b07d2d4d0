# Page faults are to use IST 1, which is the address of the kernel's higher half before that is mapped.
.include "start64.inc"
main:
    call load_tss
    mov rax, 0xffffffff80004000
    mov [tss + 0x24], rax
    gate 14, panic
    mov byte ptr [idt + 16 * 14 + 4], 1
    mov rbx, 0x200000000
    mov eax, [rbx]
    ret
panic:
    hlt
