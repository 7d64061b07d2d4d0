; The entry points that the IBM PC's BIOS had, called by their addresses instead of by INT.
%include "real.inc"
        bits 16
        org 0x7c00

%macro service 1                ; as INT does it
        pushf
        call 0xf000:%1
%endmacro

start:  begin
        mov eax, [8]            ; the NMI's vector: RET is its first byte, and a guest returns by it
        hex eax, 8
        service 0xf841          ; INT 12h
        movzx eax, ax
        say 10, "memory: "
        hex eax, 4
        service 0xf84d          ; INT 11h
        and ax, 0x0030          ; the screen
        movzx eax, ax
        say 10, "equipment: "
        hex eax, 4
        mov ah, 1               ; INT 16h: no key, ZF set
        service 0xe82e
        setz bl
        movzx eax, bl
        say 10, "no key: "
        hex eax, 1
        mov ah, 0               ; INT 1Ah: the ticks, far from midnight
        service 0xfe6e
        cmp cx, 0x19
        setb bl
        movzx eax, bl
        say 10, "ticks: "
        hex eax, 1
        push dword [0x1c * 4]   ; INT 8 calls INT 1Ch, and ends its interrupt
        mov word [0x1c * 4], tick
        mov word [0x1c * 4 + 2], 0
        cli
        service 0xfea5
        movzx eax, byte [ticked]
        pop dword [0x1c * 4]
        say 10, "tick: "
        hex eax, 1
        service 0xff53          ; IRET, and nothing else
        mov ax, 0xf000
        mov es, ax
        mov eax, [es:0xfa6e + 8 * 'A']  ; the font of 8 rows has an A and a blank
        or eax, eax
        setnz bl
        mov eax, [es:0xfa6e + 8 * ' ']
        or eax, eax
        setz bh
        movzx eax, bx
        say 10, "font: "
        hex eax, 4
        finish

tick:   inc byte [cs:ticked]
        iret

ticked: db 0
        routines
        signature
