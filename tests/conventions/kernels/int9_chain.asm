; A hook on INT 9 that counts keys and goes on to the BIOS, whose buffer then has them.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        cli
        mov eax, [9 * 4]
        mov [old], eax
        mov word [9 * 4], on_key
        mov word [9 * 4 + 2], 0
        sti
        mov dx, 0x3f8
        mov al, ">"
        out dx, al
.wait:  hlt
        cmp word [events], 6    ; three keys go down and up
        jb .wait
.show:  mov ah, 1
        int 0x16
        jz .end
        xor ah, ah
        int 0x16
        movzx eax, ax
        hex eax, 4
        say " "
        jmp .show
.end:   mov ax, [events]
        movzx eax, ax
        say "events: "
        hex eax, 2
        mov al, [0x417]
        movzx eax, al
        and al, 0x0f            ; without the locks
        say ", shift flags: "
        hex eax, 2
        cli
        mov eax, [old]
        mov [9 * 4], eax
        finish

on_key: push ax
        in al, 0x64
        test al, 1              ; the BIOS will read it
        jz .none
        inc word [cs:events]
.none:  pop ax
        jmp far [cs:old]
events: dw 0
old:    dd 0
        routines
        signature
