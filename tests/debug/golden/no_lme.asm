# A boot sector that builds the page tables of long mode, and forgets EFER.LME.
start:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    lgdt [gdt_pointer]
    mov dword ptr [0x1000], 0x2003
    mov dword ptr [0x2000], 0x3003
    mov dword ptr [0x3000], 0x83
    mov eax, cr4
    or al, 0x20
    mov cr4, eax
    mov eax, 0x1000
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80000001
    mov cr0, eax
    jmp 8:long
.code64
long:
    hlt
.align 8
gdt:
    .qword 0, 0x00af9a000000ffff
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .dword gdt
