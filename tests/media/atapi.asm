# Booted from a CD without emulation: reads sectors through INT 13h and with packets by PIO from the secondary master,
# and compares them. Says so on the first serial port, with the sum of each sector's words.

.code16
.org 0x7c00
.equ COUNT, 4

start:
    jmp 0:canonical
canonical:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    cld
    mov [packet_drive], dl
    mov bp, table
    mov cx, COUNT
.each:
    push cx
    mov eax, [bp]
    mov [packet + 8], eax
    mov dl, [packet_drive]
    mov ah, 0x42
    mov si, packet
    int 0x13
    jc failed
    mov eax, [bp]
    bswap eax
    mov [read_10 + 2], eax
    mov si, read_10
    call atapi
    mov ax, 0x3000
    mov es, ax
    xor di, di
.block:                         # a block of at most 1000 bytes, as was asked for
    call data
    jz .over
    mov dx, 0x174
    in al, dx
    mov bl, al
    inc dx
    in al, dx
    mov bh, al
    mov cx, bx
    shr cx, 1
    mov dx, 0x170
    rep insw
    jmp .block
.over:
    push 0
    pop es
    mov cx, 1024
    call compare
    pop cx
    add bp, 4
    loop .each

    mov si, beyond              # what is not there, and why
    call atapi
    call wait
    and al, 1
    add al, 0x30
    call put
    mov dx, 0x171
    in al, dx
    shr al, 4
    add al, 0x30
    call put
    jmp finish

atapi:                          # send the packet at SI
    mov dx, 0x376
    mov al, 2
    out dx, al
    mov dx, 0x176
    mov al, 0xa0
    out dx, al
    call wait
    mov dx, 0x171
    xor al, al
    out dx, al
    mov dx, 0x174
    mov al, 1000 & 0xff
    out dx, al
    inc dx
    mov al, 1000 >> 8
    out dx, al
    mov dx, 0x177
    mov al, 0xa0
    out dx, al
    call data
    jz failed
    mov dx, 0x170
    mov cx, 6
    rep outsw
    ret

wait:                           # until the drive is not busy: AL is its status
    mov dx, 0x177
    in al, dx
    test al, 0x80
    jnz wait
    ret
data:                           # the same; not zero if it wants data moved
    call wait
    test al, 1
    jnz failed
    test al, 8
    ret

.include "compare.inc"

packet_drive:
    .byte 0
packet:
    .byte 16, 0
    .word 1, 0, 0x2000
    .qword 0
read_10:
    .byte 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0
beyond:
    .byte 0x28, 0, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0, 0
table:
    .dword 16, 19, 20, 99
