; Mode 13h: a palette of our own, a picture of all colours, lines and a scrolled half.
        bits 16
        org 0x7c00

start:  xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov ax, 0x13
        int 0x10
        mov dx, 0x3c8
        xor al, al
        out dx, al
        inc dx
        xor cx, cx
.entry: mov al, cl              ; red rises, green falls, blue goes by threes
        shr al, 2
        out dx, al
        neg al
        add al, 63
        out dx, al
        mov al, cl
        imul ax, 3
        and al, 63
        out dx, al
        inc cx
        cmp cx, 256
        jne .entry
        mov ax, 0xa000
        mov es, ax
        xor di, di
        xor dx, dx
.row:   xor cx, cx
.pixel: mov al, cl
        xor al, dl
        stosb
        inc cx
        cmp cx, 320
        jne .pixel
        inc dx
        cmp dx, 200
        jne .row
        mov ax, 0x0c0f          ; the BIOS's way to set a pixel
        mov cx, 100
        mov dx, 100
        xor bh, bh
.line:  int 0x10
        inc cx
        cmp cx, 200
        jne .line
        cli
halt:   hlt
        jmp halt
        times 510 - ($ - $$) db 0
        dw 0xaa55
