; From multiboot's 32-bit world to 64 bits: check for long mode, identity-map 1 GiB with large pages, say OKAY.
        bits 32
section .text
        align 4
        dd 0x1badb002, 0, -0x1badb002

global start
start:  mov esp, stack_top
        cmp eax, 0x2badb002
        mov al, "0"
        jne error
        pushfd                          ; CPUID is there if EFLAGS.ID can be changed
        pop eax
        mov ecx, eax
        xor eax, 1 << 21
        push eax
        popfd
        pushfd
        pop eax
        push ecx
        popfd
        cmp eax, ecx
        mov al, "1"
        je error
        mov eax, 0x80000001
        cpuid
        test edx, 1 << 29
        mov al, "2"
        jz error

        mov eax, p3_table
        or eax, 3
        mov [p4_table], eax
        mov eax, p2_table
        or eax, 3
        mov [p3_table], eax
        xor ecx, ecx
.map:   mov eax, 0x200000
        mul ecx
        or eax, 0x83
        mov [p2_table + ecx * 8], eax
        inc ecx
        cmp ecx, 512
        jne .map
        mov eax, p4_table
        mov cr3, eax
        mov eax, cr4
        or eax, 1 << 5
        mov cr4, eax
        mov ecx, 0xc0000080
        rdmsr
        or eax, 1 << 8
        wrmsr
        mov eax, cr0
        or eax, 1 << 31
        mov cr0, eax
        lgdt [gdt64.pointer]
        jmp 8:long_mode

error:  mov dword [0xb8000], 0x4f524f45
        mov dword [0xb8004], 0x4f3a4f52
        mov dword [0xb8008], 0x4f204f20
        mov byte [0xb800a], al
        hlt

        bits 64
long_mode:
        xor ax, ax
        mov ss, ax
        mov ds, ax
        mov es, ax
        mov rdi, 0xb8000
        mov ecx, 500
        mov rax, 0x1f201f201f201f20
        rep stosq
        mov rax, 0x2f592f412f4b2f4f
        mov [0xb8000], rax
        mov r8, 0x0123456789abcdef      ; 64 bits, as proof
        mov rdi, 0xb80a0
        mov ecx, 16
.digit: rol r8, 4
        mov al, r8b
        and al, 15
        add al, "0"
        cmp al, "9"
        jbe .store
        add al, 39
.store: mov ah, 0x1f
        stosw
        mov dx, 0x3f8
        out dx, al
        loop .digit
        cli
.end:   hlt
        jmp .end

section .rodata
gdt64:  dq 0
        dq 1 << 43 | 1 << 44 | 1 << 47 | 1 << 53
.pointer:
        dw $ - gdt64 - 1
        dd gdt64

section .bss
        align 4096
p4_table: resb 4096
p3_table: resb 4096
p2_table: resb 4096
        resb 64
stack_top:
