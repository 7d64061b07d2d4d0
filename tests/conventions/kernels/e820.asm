; The memory map, as loaders ask for it: entry by entry, until EBX is 0. What lies below 1 MiB is shown in full; above,
; firmware keeps some for itself, so the usable memory there is counted in MiB, rounded up, and what is reserved says
; only whether it is the firmware at the end of the 4 GiB.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        xor ebx, ebx
next:   mov di, entry
        mov eax, 0xe820
        mov ecx, 24
        mov edx, "PAMS"
        mov dword [entry + 20], 1
        int 0x15
        jc done
        cmp eax, "PAMS"
        jne done
        mov eax, [entry]
        cmp dword [entry + 4], 0
        jne above
        cmp eax, 0x100000
        jae above
        hex eax, 8
        mov al, "+"
        call put
        mov eax, [entry + 8]
        hex eax, 8
        mov al, " "
        call put
        mov eax, [entry + 16]
        hex eax, 1
        say 10
        jmp more
above:  cmp byte [entry + 16], 1
        je memory
        cmp dword [entry + 4], 0
        jne more
        mov eax, [entry]
        add eax, [entry + 8]
        jnz more
        say "to 4 GiB", 10
        jmp more
memory:
        mov eax, [entry + 8]
        add [usable], eax
more:   test ebx, ebx
        jnz next
done:   mov eax, [usable]
        add eax, 0xfffff
        shr eax, 20
        hex eax, 4
        say " MiB", 10
        int 0x12
        movzx eax, ax
        hex eax, 4
        mov ax, 0xe801
        int 0x15
        add dx, 15              ; 64 KiB blocks behind 16 MiB
        shr dx, 4
        say " "
        hex ecx, 4
        say " "
        hex edx, 4
        finish
        routines
usable: dd 0
entry equ 0x500
        signature
