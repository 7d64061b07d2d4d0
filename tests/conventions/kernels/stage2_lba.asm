; A boot sector of a hard disk that reads its second stage by block number, with a disk address packet.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        mov ah, 0x41
        mov bx, 0x55aa
        mov dl, [boot_drive]
        int 0x13
        jc failed
        cmp bx, 0xaa55
        jne failed
        test cl, 1
        jz failed
        mov si, packet
        mov ah, 0x42
        mov dl, [boot_drive]
        int 0x13
        jc failed
        jmp 0x8000
failed: say "no extensions, or no disk"
        finish
packet: db 16, 0
        dw 2                    ; blocks
        dw 0x8000, 0            ; offset and segment
        dq 1
        routines
        signature

        times 512 - ($ - $$) db 0
section stage2 vstart=0x8000 follows=.text
        say "stage 2 was read by block number", 10, "drive "
        movzx eax, byte [boot_drive]
        hex eax, 2
        mov word [packet + 2], 1
        mov word [packet + 4], 0x9000
        mov dword [packet + 8], 2000
        mov si, packet
        mov ah, 0x42
        mov dl, [boot_drive]
        int 0x13
        say 10, "block 2000: "
        mov eax, [0x9000]
        hex eax, 8
        mov word [parameters], 26
        mov si, parameters
        mov ah, 0x48
        mov dl, [boot_drive]
        int 0x13
        say 10, "blocks: "
        mov eax, [parameters + 16]
        hex eax, 8
        movzx eax, word [parameters + 24]
        say ", bytes in each: "
        hex eax, 4
        mov dword [packet + 8], 0x10000000
        mov si, packet
        mov ah, 0x42
        mov dl, [boot_drive]
        int 0x13
        setc bl
        movzx ebx, bl
        say 10, "behind the end: carry "
        hex ebx, 1
        finish
parameters: times 32 db 0
        times 1024 - ($ - $$) db 0
section far follows=stage2
        times (2000 - 3) * 512 db 0
        dd 0x20002000
        times 512 - 4 db 0
