; A boot sector that reads its second stage by cylinder, head and sector: reset, read with retries, jump.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        mov di, 3               ; diskettes were read three times before giving up
read:   xor ah, ah
        mov dl, [boot_drive]
        int 0x13
        mov ax, 0x0200 + SECTORS
        mov cx, 0x0002          ; cylinder 0, sector 2
        mov dh, 0
        mov dl, [boot_drive]
        mov bx, 0x7e00
        int 0x13
        jnc loaded
        dec di
        jnz read
        say "the disk cannot be read"
        finish
loaded: mov [count], al
        jmp 0x7e00

        routines
count:  db 0
        signature

SECTORS equ (end - stage2 + 511) / 512
stage2: say "stage 2 runs, sectors read: "
        hex [count], 2
        say 10, "their sum: "
        mov si, stage2
        mov cx, SECTORS * 256
        xor edx, edx
sum:    lodsw
        movzx eax, ax
        add edx, eax
        loop sum
        hex edx, 8
        mov ah, 8               ; the geometry, as drivers ask for it
        mov dl, [boot_drive]
        push es
        int 0x13
        pop es
        say 10, "last cylinder and sector, last head, drives: "
        hex ecx, 4
        say " "
        hex edx, 4
        mov ax, 0x0201          ; a sector of the other side: head 1
        mov cx, 0x0001
        mov dh, 1
        mov dl, [boot_drive]
        mov bx, 0x9000
        int 0x13
        say 10, "from head 1: "
        mov si, 0x9000
        call print_string
        mov ax, 0x0201          ; sector 0 does not exist
        mov cx, 0x0000
        mov dh, 0
        mov dl, [boot_drive]
        int 0x13
        setc al
        movzx eax, al
        say 10, "sector 0 fails: "
        hex eax, 1
        finish
print_string:
        lodsb
        or al, al
        jz .end
        call put
        jmp print_string
.end:   ret
        times 18 * 512 - ($ - $$) db 0x5a       ; head 1 begins behind 18 sectors
        db "the nineteenth sector", 0
end:
        times 40 * 512 - ($ - $$) db 0
