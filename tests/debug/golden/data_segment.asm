# A boot sector that enters protected mode by a far jump to its data segment.
start:
    cli
    xor ax, ax
    mov ds, ax
    lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp 0x10:protected
.code32
protected:
    hlt
.align 8
gdt:
    .qword 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .dword gdt
