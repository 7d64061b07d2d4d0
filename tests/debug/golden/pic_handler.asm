# A boot sector whose double fault handler stops the machine, and is called by the timer.
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
    mov word ptr [0x8000 + 8 * 8], on_double_fault
    mov dword ptr [0x8000 + 8 * 8 + 2], 8
    mov byte ptr [0x8000 + 8 * 8 + 5], 0x8e
    sti
idle:
    hlt
    jmp idle
on_double_fault:
    cli
    hlt
.align 8
gdt:
    .qword 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .dword gdt
idt_pointer:
    .word 0x7ff
    .dword 0x8000
