# A boot sector that calls the BIOS from protected mode.
start:
    cli
    xor ax, ax
    mov ds, ax
    lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp 8:protected
.code32
protected:
    mov ax, 0x10
    mov ss, ax
    mov esp, 0x7c00
    mov ax, 0x0e41
    int 0x10
    hlt
.align 8
gdt:
    .qword 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .dword gdt
