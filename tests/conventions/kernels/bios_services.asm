; Small services: the clock's date and time, moving memory above 1 MiB, the equipment, and one that is not there.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        mov ah, 5               ; 2031-12-31, century first
        mov cx, 0x2031
        mov dx, 0x1231
        int 0x1a
        mov ah, 3
        mov cx, 0x1122
        mov dx, 0x3300
        int 0x1a
        mov ah, 4
        int 0x1a
        movzx eax, cx
        hex eax, 4
        movzx eax, dx
        hex eax, 4
        mov ah, 2
        int 0x1a
        movzx eax, cx
        say " "
        hex eax, 4
        mov dword [0x1000], 0x600dc0de
        mov si, table
        mov cx, 2               ; words
        mov ah, 0x87
        int 0x15
        setc bl
        movzx eax, ah
        say 10, "moved: "
        hex eax, 2
        mov si, back
        mov cx, 2
        mov ah, 0x87
        int 0x15
        mov eax, [0x2000]
        say " "
        hex eax, 8
        int 0x11
        movzx eax, ax
        and ax, 0x0030          ; the screen
        say 10, "equipment: "
        hex eax, 4
        mov ax, 0xfe00          ; nobody serves this
        int 0x15
        setc bl
        movzx ebx, bl
        movzx eax, ah
        say 10, "not there: "
        hex ebx, 1
        hex eax, 2
        finish
table:  times 16 db 0
        dw 0xffff, 0x1000
        db 0, 0x93
        dw 0
        dw 0xffff, 0
        db 0x20, 0x93           ; to 2 MiB
        dw 0
        times 16 db 0
back:   times 16 db 0
        dw 0xffff, 0
        db 0x20, 0x93
        dw 0
        dw 0xffff, 0x2000
        db 0, 0x93
        dw 0
        times 16 db 0
        routines
        signature
