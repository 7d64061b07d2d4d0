# A boot sector whose code segment lacks the D flag, so that 32-bit instructions are misread.
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
    mov ds, ax
    mov ss, ax
    mov esp, 0x90000
    mov dword ptr [0xb8000], 0x07410742
    hlt
.align 8
gdt:
    .qword 0, 0x008f9a000000ffff, 0x008f92000000ffff
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .dword gdt
