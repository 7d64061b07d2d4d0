# Reads sectors of the boot diskette through INT 13h and with the 82077 and DMA channel 2, and compares them; writes by
# one way and reads by the other. Says so on the first serial port, with the sum of each sector's words.

.equ COUNT, 5

.include "start.inc"
    mov bp, table
    mov cx, COUNT
.each:
    push cx
    mov ax, [bp]                # cylinder
    mov [cylinder], al
    mov ax, [bp + 2]            # sector, head
    mov [sector], al
    mov [head], ah
    mov ax, 0x0201
    call bios
    call fdc_seek
    mov byte ptr [way], 0x46    # to memory
    mov byte ptr [code], 0x46
    call fdc_transfer
    mov cx, 256
    call compare
    pop cx
    add bp, 4
    loop .each

    mov al, 0x77                # "w": written by the controller, read by INT 13h
    call put
    mov ax, 0x1234
    call fill
    mov byte ptr [way], 0x4a
    mov byte ptr [code], 0x45
    call fdc_transfer
    mov ax, 0x0201
    call bios
    mov cx, 256
    call compare
    jmp finish

bios:                           # AX: function and count; the sector to 2000:0
    push es
    mov bx, 0x2000
    mov es, bx
    xor bx, bx
    mov ch, [cylinder]
    mov cl, [sector]
    mov dh, [head]
    mov dl, [drive]
    int 0x13
    pop es
    jc failed
    ret

fdc_put:                        # a byte to the controller, when it takes one
    push ax
    mov dx, 0x3f4
.wait:
    in al, dx
    and al, 0xc0
    cmp al, 0x80
    jne .wait
    inc dx
    pop ax
    out dx, al
    ret
fdc_get:                        # a byte from it
    mov dx, 0x3f4
.wait:
    in al, dx
    and al, 0xc0
    cmp al, 0xc0
    jne .wait
    inc dx
    in al, dx
    ret

fdc_seek:
    cli                         # the BIOS would take the interrupt's status
    mov dx, 0x3f2
    mov al, 0x1c                # motor of drive A, DMA on
    out dx, al
    mov al, 0x0f
    call fdc_put
    mov al, [head]
    shl al, 2
    call fdc_put
    mov al, [cylinder]
    call fdc_put
.sense:
    mov al, 0x08
    call fdc_put
    call fdc_get
    cmp al, 0x80
    je .sense
    mov bl, al
    call fdc_get
    test bl, 0x20
    jz .sense
    ret

fdc_transfer:                   # [code] through DMA channel 2 with mode [way], at 3000:0
    mov al, 6
    out 0x0a, al
    out 0x0c, al
    mov al, [way]
    out 0x0b, al
    xor al, al
    out 0x04, al
    out 0x04, al
    mov al, 0xff
    out 0x05, al
    mov al, 1
    out 0x05, al
    mov al, 3
    out 0x81, al
    mov al, 2
    out 0x0a, al
    mov al, [code]
    call fdc_put
    mov al, [head]
    shl al, 2
    call fdc_put
    mov al, [cylinder]
    call fdc_put
    mov al, [head]
    call fdc_put
    mov al, [sector]
    call fdc_put
    mov al, 2
    call fdc_put
    mov al, 18
    call fdc_put
    mov al, 0x1b
    call fdc_put
    mov al, 0xff
    call fdc_put
    call fdc_get                # ST0
    and al, 0xc0
    mov bl, al
    mov cx, 6
.result:
    call fdc_get
    loop .result
    sti
    test bl, bl
    jnz failed
    ret

.include "compare.inc"

cylinder:
    .byte 0
head:
    .byte 0
sector:
    .byte 0
way:
    .byte 0
code:
    .byte 0
table:                          # cylinder, sector and head
    .word 0, 0x0001, 0, 0x0112, 5, 0x0007, 40, 0x0109, 79, 0x0112
