; The first lesson: a boot sector that says hello by the BIOS's teletype, and halts.
        bits 16
        org 0x7c00

start:  xor ax, ax
        mov ds, ax
        mov ax, 3               ; a clear screen, where the lesson has the firmware's messages
        int 0x10
        mov si, hello
next:   lodsb
        or al, al
        jz halt
        mov ah, 0x0e
        int 0x10
        jmp next
halt:   cli
        hlt
        jmp halt

hello:  db "Hello from a boot sector!", 13, 10, "It is", 8, "was", 7, " here.", 0
        times 510 - ($ - $$) db 0
        dw 0xaa55
