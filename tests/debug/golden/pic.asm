# A boot sector that enters protected mode and lets interrupts in, with the PIC as the BIOS left it.
start:
    cli
    xor ax, ax
    mov ds, ax
    lgdt [gdt_pointer]
    lidt [idt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp 8:protected
.code32
protected:
    mov ax, 0x10
    mov ds, ax
    mov ss, ax
    mov esp, 0x7c00
    sti
idle:
    hlt
    jmp idle
.align 8
gdt:
    .qword 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .dword gdt
idt_pointer:
    .word 0x7ff
    .dword 0x8000               # 256 gates, all zeros
