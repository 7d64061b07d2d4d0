; A prompt by the BIOS: INT 16h waits for keys, INT 10h shows them.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        say "> "
        mov dx, 0x3f8
        mov al, ">"
        out dx, al
        mov di, line
.key:   xor ah, ah
        int 0x16
        cmp al, 13
        je .enter
        cmp al, 8
        je .back
        stosb
        call put
        jmp .key
.back:  cmp di, line
        je .key
        dec di
        say 8, " ", 8
        jmp .key
.enter: mov byte [di], 0
        movzx eax, ax
        say 10, "Enter is "
        hex eax, 4
        say 10, "typed: "
        mov si, line
.show:  lodsb
        or al, al
        jz .end
        call put
        jmp .show
.end:   mov ah, 1
        int 0x16
        jz .empty
        say " and more"
.empty: finish
        routines
line equ 0x600
        signature
