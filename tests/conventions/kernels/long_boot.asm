; From a boot sector to 64 bits in one step, without protected mode between: PAE, tables, EFER, then PE and PG at once.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        mov eax, 0x80000001
        cpuid
        test edx, 1 << 29
        jnz able
        say "no long mode"
        finish
able:   cli
        cld
        mov di, 0x9000          ; PML4, PDPT, PD, PT: the first 2 MiB in small pages
        mov cx, 0x1000
        xor eax, eax
        rep stosd
        mov dword [0x9000], 0xa003
        mov dword [0xa000], 0xb003
        mov dword [0xb000], 0xc003
        mov di, 0xc000
        mov eax, 3
.page:  stosd
        add di, 4
        add eax, 0x1000
        cmp eax, 0x200000
        jb .page
        mov al, 0xff            ; no interrupt controller
        out 0xa1, al
        out 0x21, al
        lidt [no_idt]
        mov eax, 0xa0
        mov cr4, eax
        mov eax, 0x9000
        mov cr3, eax
        mov ecx, 0xc0000080
        rdmsr
        or eax, 0x100
        wrmsr
        mov ebx, cr0
        or ebx, 0x80000001
        mov cr0, ebx
        lgdt [pointer]
        jmp 8:long_mode
no_idt: dw 0
        dd 0
pointer:
        dw 23
        dd gdt
gdt:    dq 0, 0x00209a0000000000, 0x0000920000000000

        bits 64
long_mode:
        mov ax, 16
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov rsi, text
        mov rdi, 0xb8000
        mov r9, 0x0a00
.next:  movzx rax, byte [rsi]
        test al, al
        jz .end
        inc rsi
        or rax, r9
        stosw
        jmp .next
.end:   mov dx, 0x3f8
        mov al, "6"
        out dx, al
        mov al, "4"
        out dx, al
halt:   hlt
        jmp halt
text:   db "Hello from 64 bits, straight from the boot sector", 0
        bits 16
        routines
        signature
