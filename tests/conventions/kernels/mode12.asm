; Mode 12h: four planes, written through the map mask, set/reset and bit mask registers, with all write modes.
        bits 16
        org 0x7c00

%macro graphics 2
        mov dx, 0x3ce
        mov ax, %1 | %2 << 8
        out dx, ax
%endmacro
%macro sequencer 2
        mov dx, 0x3c4
        mov ax, %1 | %2 << 8
        out dx, ax
%endmacro

start:  xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov ax, 0x12
        int 0x10
        mov ax, 0xa000
        mov es, ax
        mov cx, 4               ; a pattern to each plane
        mov bl, 1
.plane: mov dx, 0x3c4
        mov al, 2
        mov ah, bl
        out dx, ax
        push cx
        movzx di, bl
        imul di, 800
        mov cx, 6000
        mov al, bl
.fill:  add al, 37
        stosb
        loop .fill
        pop cx
        shl bl, 1
        loop .plane
        sequencer 2, 15
        graphics 0, 10          ; set/reset: light green
        graphics 1, 15
        graphics 8, 0x3c        ; four dots of eight
        mov di, 80 * 200
        mov cx, 80
.line:  mov al, [es:di]         ; into the latches
        mov byte [es:di], 0
        inc di
        loop .line
        graphics 1, 0
        graphics 8, 0xff
        graphics 5, 1           ; write mode 1 copies the latches
        mov si, 80 * 20
        mov di, 80 * 300
        mov cx, 80 * 40
        push ds
        push es
        pop ds
        rep movsb
        pop ds
        graphics 5, 2           ; write mode 2 takes colours
        graphics 8, 0xf0
        mov di, 80 * 400
        mov cx, 80
        xor al, al
.col:   mov ah, [es:di]
        mov [es:di], al
        inc al
        inc di
        loop .col
        graphics 3, 0x18        ; XOR
        graphics 8, 0xff
        mov di, 80 * 10
        mov cx, 800
.xor:   mov ah, [es:di]
        mov byte [es:di], 5
        inc di
        loop .xor
        graphics 3, 0
        graphics 5, 0
        cli
halt:   hlt
        jmp halt
        times 510 - ($ - $$) db 0
        dw 0xaa55
