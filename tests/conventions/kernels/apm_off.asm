; Power off by the advanced power management BIOS: connect, enable, set the power state.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        mov ax, 0x5300
        xor bx, bx
        int 0x15
        jc none
        say "APM "
        movzx eax, ax
        hex eax, 4
        say ", "
        mov al, bh
        call put
        mov al, bl
        call put
        mov ax, 0x5304          ; nobody is connected; should anybody be
        xor bx, bx
        int 0x15
        mov ax, 0x5301
        xor bx, bx
        int 0x15
        jc failed
        mov ax, 0x530e
        xor bx, bx
        mov cx, 0x0102
        int 0x15
        mov ax, 0x5308
        mov bx, 1
        mov cx, 1
        int 0x15
        jc failed
        say 10, "off"
        mov ax, 0x5307
        mov bx, 1
        mov cx, 3
        int 0x15
failed: say 10, "it did not"
        finish
none:   say "there is no APM"
        finish
        routines
        signature
