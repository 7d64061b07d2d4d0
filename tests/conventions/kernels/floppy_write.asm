; Writing with the BIOS: a sector is written, read back and compared, by CHS.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        mov di, 0x8000
        mov cx, 512
        mov al, 0x11
fill:   stosb
        add al, 7
        loop fill
        mov ax, 0x0301
        mov bx, 0x8000
        call transfer
        say "written: "
        hex eax, 4
        mov ax, 0x0201
        mov bx, 0x9000
        call transfer
        say 10, "read: "
        hex eax, 4
        mov si, 0x8000
        mov di, 0x9000
        mov cx, 512
        repe cmpsb
        je good
        say 10, "not the same"
        finish
good:   say 10, "the same"
        mov ah, 1
        mov dl, [boot_drive]
        int 0x13
        say ", status: "
        movzx eax, ah
        hex eax, 2
        mov ah, 0x15
        mov dl, [boot_drive]
        int 0x13
        say 10, "kind: "
        movzx eax, ah
        hex eax, 2
        finish
transfer:
        mov cx, 0x0509          ; cylinder 5, sector 9
        mov dh, 1
        mov dl, [boot_drive]
        int 0x13
        movzx eax, ax
        ret
        routines
        signature
