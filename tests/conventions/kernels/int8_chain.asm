; Chained interrupts: INT 8 is hooked and goes on to the BIOS, which calls INT 1Ch, which is hooked, too.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        cli
        mov eax, [8 * 4]
        mov [old_timer], eax
        mov word [8 * 4], on_timer
        mov word [8 * 4 + 2], 0
        mov eax, [0x1c * 4]
        mov [old_user], eax
        mov word [0x1c * 4], on_user
        mov word [0x1c * 4 + 2], 0
        mov ebx, [0x46c]
        sti
.wait:  hlt
        cmp word [timer], 5
        jb .wait
        cli
        mov eax, [0x46c]
        sub eax, ebx
        say "BIOS ticks: "
        hex eax, 4
        mov ax, [timer]
        say ", INT 8: "
        hex eax, 4
        mov ax, [user]
        say ", INT 1Ch: "
        hex eax, 4
        mov eax, [old_timer]
        mov [8 * 4], eax
        mov eax, [old_user]
        mov [0x1c * 4], eax
        sti
        xor ah, ah              ; the BIOS still counts
        int 0x1a
        mov bx, dx
.again: hlt
        xor ah, ah
        int 0x1a
        cmp dx, bx
        je .again
        say 10, "and it goes on"
        finish

on_timer:
        inc word [cs:timer]
        jmp far [cs:old_timer]
on_user:
        inc word [cs:user]
        jmp far [cs:old_user]
timer:  dw 0
user:   dw 0
old_timer: dd 0
old_user: dd 0
        routines
        signature
