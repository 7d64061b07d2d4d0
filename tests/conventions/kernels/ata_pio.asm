; The hard disk without the BIOS: IDENTIFY, and a sector by 28-bit LBA through ports 1F0h to 1F7h, in a loop that polls.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        cli
        mov dx, 0x3f6
        mov al, 2               ; no interrupts
        out dx, al
        mov dx, 0x1f6
        mov al, 0xa0
        out dx, al
        mov al, 0xec
        call command
        jc failed
        movzx eax, word [buffer + 2 * 49]
        shr eax, 8
        and al, 3
        say "LBA and DMA: "
        hex eax, 1
        mov eax, [buffer + 2 * 60]
        say ", sectors: "
        hex eax, 8
        mov dx, 0x1f2           ; one sector, number 3
        mov al, 1
        out dx, al
        inc dx
        mov al, 3
        out dx, al
        inc dx
        xor al, al
        out dx, al
        inc dx
        out dx, al
        inc dx
        mov al, 0xe0
        out dx, al
        mov al, 0x20
        call command
        jc failed
        say 10, "sector 3: "
        mov si, buffer
.next:  lodsb
        or al, al
        jz .end
        call put
        jmp .next
.end:   mov dx, 0x1f6           ; nobody is the second disk
        mov al, 0xf0
        out dx, al
        mov dx, 0x1f7
        in al, dx
        movzx eax, al
        say 10, "second disk: "
        hex eax, 2
        finish
failed: say "it failed"
        finish

command:                        ; AL to the command register, then 256 words
        mov dx, 0x1f7
        out dx, al
        mov cx, 4
.slow:  in al, dx               ; 400 ns
        loop .slow
.busy:  in al, dx
        test al, 0x80
        jnz .busy
        test al, 0x21
        jnz .error
        test al, 8
        jz .busy
        mov dx, 0x1f0
        mov cx, 256
        mov di, buffer
        rep insw
        clc
        ret
.error: stc
        ret
buffer equ 0x8000
        routines
        signature
        times 3 * 512 - ($ - $$) db 0
        db "as INT 13h would have read it", 0
        times 8 * 512 - ($ - $$) db 0
