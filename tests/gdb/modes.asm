; A boot sector that goes from real mode through protected mode to long mode, and comes to a known place in each.

%macro mark 1
global %1
%1:
%endmacro

        bits 16
section .text
mark start
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov ax, 0x1234
mark in_real
        add ax, 1
        push 0x0700
        pop es                          ; the code below runs again with another CS: the same linear addresses
        jmp 0x0700:(far_real - 0x7000)
mark far_real
        mov bx, cs
        cli
        lgdt [gdt_pointer]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp 8:protected

        bits 32
mark protected
        mov ax, 16
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esp, 0x7c00
        mov ecx, 0x11223344
mark in_protected
        inc ecx
        mov edi, 0x10000                ; PML4, PDPT and PD at 64 KiB: the first 2 MiB, and again at -2 GiB
        xor eax, eax
        push ecx
        mov ecx, 0x3000 / 4
        rep stosd
        pop ecx
        mov dword [0x10000], 0x11003
        mov dword [0x10ff8], 0x11003
        mov dword [0x11000], 0x12003
        mov dword [0x11ff0], 0x12003
        mov dword [0x12000], 0x83
        mov eax, 0x10000
        mov cr3, eax
        mov eax, 0x20
        mov cr4, eax
        push ecx
        mov ecx, 0xc0000080
        rdmsr
        or ah, 1
        wrmsr
        pop ecx
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        jmp 24:long_mode

        bits 64
mark long_mode
        mov r15, 0x1122334455667788
mark in_long
        inc r15
        mov rax, in_high + 0xffffffff80000000
        jmp rax
mark in_high
        mov qword [counter], 1
        mov qword [counter], 2
        mov rax, [counter]
        mov dx, 0x604
        mov ax, 0x2000
        out dx, ax
        hlt

        align 8
mark counter
        dq 0
gdt:    dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdt_pointer:
        dw 31
        dd gdt
        times 510 - ($ - $$) db 0
        dw 0xaa55
