; The screen by the BIOS: cursor, attributes, strings, windows that scroll, and what can be read back.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        mov ah, 0x0f
        int 0x10
        movzx eax, ax
        hex eax, 4
        mov ax, 0x1301          ; a string with one attribute, and the cursor behind it
        mov bx, 0x001e
        mov cx, 11
        mov dx, 0x0303
        mov bp, yellow
        int 0x10
        say "|"
        mov ah, 2
        mov bh, 0
        mov dx, 0x0505
        int 0x10
        mov ax, 0x0941          ; ten times A
        mov bx, 0x004f
        mov cx, 10
        int 0x10
        mov ah, 8
        mov bh, 0
        int 0x10
        push ax
        mov ah, 2
        mov dx, 0x0700
        int 0x10
        pop ax
        movzx eax, ax
        hex eax, 4
        mov ax, 0x0601          ; lines 3 to 6 of a window go up
        mov bh, 0x17
        mov cx, 0x0300
        mov dx, 0x0627
        int 0x10
        mov ah, 3
        mov bh, 0
        int 0x10
        say " "
        movzx edx, dx
        hex edx, 4
        mov cx, 18              ; and the teletype scrolls the whole
.line:  say 10, "row "
        hex ecx, 2
        loop .line
        finish
yellow: db "a yellow on"
        routines
        signature
