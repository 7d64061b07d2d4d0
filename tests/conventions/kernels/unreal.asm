; Unreal mode: segments with a limit of 4 GiB, loaded in protected mode and kept in real mode.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        in al, 0x92
        or al, 2
        and al, 0xfe
        out 0x92, al
        cli
        push ds
        lgdt [pointer]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp $ + 2
        mov bx, 8
        mov ds, bx
        mov es, bx
        and al, 0xfe
        mov cr0, eax
        pop ds                  ; the base changes, the limit stays
        push ds
        pop es
        sti
        mov edi, 0x200000
        mov ecx, 1024
        mov eax, 0x12345678
        a32 rep stosd
        mov esi, 0x200000 + 4092
        a32 lodsd
        say "at 2 MiB: "
        hex eax, 8
        mov ebx, 0xb8000 + 160
        mov word [ebx], 0x0f21
        mov word [ebx + 2], 0x0f21
        finish
pointer:
        dw 15
        dd gdt
gdt:    dq 0, 0x00cf92000000ffff
        routines
        signature
