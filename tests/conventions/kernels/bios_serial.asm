; The serial port by the BIOS: INT 14h initializes, sends, and tells its status.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        mov ax, 0x00e3          ; 9600 baud, no parity, one stop bit, eight bits
        xor dx, dx
        int 0x14
        movzx eax, ax
        and ax, 0x00f0          ; the modem's lines
        say "lines: "
        hex eax, 4
        mov si, text
.next:  lodsb
        or al, al
        jz .end
        mov ah, 1
        xor dx, dx
        int 0x14
        test ah, 0x80
        jz .next
        say 10, "time is up"
.end:   mov ah, 3
        xor dx, dx
        int 0x14
        movzx eax, ah
        and al, 0x9e            ; no timeout, no error
        say 10, "errors: "
        hex eax, 2
        finish
text:   db "sent by INT 14h", 13, 10, 0
        routines
        signature
