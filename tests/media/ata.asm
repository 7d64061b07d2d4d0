# Reads sectors of the boot drive through INT 13h and of the primary master by ATA PIO, and compares them; writes by one
# way and reads by the other. Says so on the first serial port, a line for each, with the sum of the sector's words.

.equ COUNT, 7

.include "start.inc"
    mov bp, table
    mov cx, COUNT
.each:
    push cx
    mov eax, [bp]
    call read_both
    mov cx, [size]
    call compare
    pop cx
    add bp, 4
    loop .each

    mov al, 0x77                # "w": written by PIO, read by INT 13h
    call put
    mov ax, 0x1234
    call fill
    mov eax, 77
    call pio_write
    mov eax, 77
    call bios_read
    mov cx, [size]
    call compare
    mov al, 0x57                # "W": written by INT 13h, read by PIO
    call put
    mov ax, 0x4321
    call fill
    mov eax, 78
    mov ah, 0x43
    mov word ptr [packet + 6], 0x3000
    call bios_do
    mov eax, 78
    call bios_read
    mov eax, 78
    call pio_read
    mov cx, [size]
    call compare
    mov al, 0x6d                # "m": READ MULTIPLE, eight sectors in one string
    call put
    mov dx, 0x1f2
    mov al, 8
    out dx, al
    mov dx, 0x1f6
    mov al, 0xe0
    out dx, al
    inc dx
    mov al, 0xc6
    out dx, al
    call pio_wait
    mov eax, 40
    call pio_address
    mov dx, 0x1f2
    mov al, 8
    out dx, al
    mov dx, 0x1f7
    mov al, 0xc4
    out dx, al
    mov cx, 256 * 8
    call pio_words
    mov word ptr [packet + 2], 8
    mov eax, 40
    call bios_read
    mov word ptr [size], 256 * 8
    mov cx, [size]
    call compare
    jmp finish

read_both:                      # sector EAX to 2000:0 by INT 13h, to 3000:0 by PIO
    push eax
    call bios_read
    pop eax
    jmp pio_read

bios_read:
    mov word ptr [packet + 6], 0x2000
    mov [packet + 8], eax
    mov ah, 0x42
    jmp bios_go
bios_do:
    mov dword ptr [packet + 8], 78
bios_go:
    mov dl, [drive]
    mov si, packet
    int 0x13
    jc failed
    ret

pio_address:                    # LBA EAX and one sector
    mov ebx, eax
    call pio_wait
    mov dx, 0x1f6
    shr eax, 24
    or al, 0xe0
    out dx, al
    mov dx, 0x1f2
    mov al, 1
    out dx, al
    inc dx
    mov al, bl
    out dx, al
    inc dx
    mov al, bh
    out dx, al
    inc dx
    shr ebx, 16
    mov al, bl
    out dx, al
    ret

pio_read:
    call pio_address
    mov dx, 0x1f7
    mov al, 0x20
    out dx, al
    mov cx, 256
pio_words:
    call pio_data
    push es
    mov ax, 0x3000
    mov es, ax
    xor di, di
    mov dx, 0x1f0
    rep insw
    pop es
    ret

pio_write:
    call pio_address
    mov dx, 0x1f7
    mov al, 0x30
    out dx, al
    call pio_data
    push ds
    mov ax, 0x3000
    mov ds, ax
    xor si, si
    mov dx, 0x1f0
    mov cx, 256
    rep outsw
    pop ds
    jmp pio_wait

pio_wait:                       # until the drive is not busy
    mov dx, 0x1f7
    in al, dx
    test al, 0x80
    jnz pio_wait
    ret
pio_data:                       # until it wants data moved
    call pio_wait
    test al, 1
    jnz failed
    test al, 8
    jz pio_data
    ret

.include "compare.inc"

packet:
    .byte 16, 0
    .word 1, 0, 0x2000
    .qword 0
size:
    .word 256
table:
    .dword 0, 1, 2, 63, 64, 1000, 4095
