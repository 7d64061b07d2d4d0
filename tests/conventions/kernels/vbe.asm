; VESA: find a mode of 800 by 600 with 32 bits in the controller's list, set it with its linear frame buffer, draw.
%include "real.inc"
        bits 16
        org 0x7c00

start:  begin
        mov dword [controller], "VBE2"
        mov ax, 0x4f00
        mov di, controller
        int 0x10
        cmp ax, 0x004f
        jne failed
        cmp dword [controller], "VESA"
        jne failed
        lfs si, [controller + 14]
next:   mov cx, [fs:si]
        add si, 2
        cmp cx, 0xffff
        je failed
        mov ax, 0x4f01
        mov di, mode
        push es
        int 0x10
        pop es
        cmp ax, 0x004f
        jne next
        cmp dword [mode + 18], 800 | 600 << 16
        jne next
        cmp byte [mode + 25], 32
        jne next
        test byte [mode], 0x80  ; has a linear frame buffer
        jz next
        mov bx, cx
        or bx, 0x4000
        mov ax, 0x4f02
        int 0x10
        cmp ax, 0x004f
        jne failed
        mov ax, 0x4f03
        int 0x10
        in al, 0x92
        or al, 2
        out 0x92, al
        cli
        lgdt [pointer]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp 8:protected
failed: say "no such mode"
        finish
        routines
pointer:
        dw 23
        dd gdt
gdt:    dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff

        bits 32
protected:
        mov ax, 16
        mov ds, ax
        mov es, ax
        mov edi, [mode + 40]
        movzx ebp, word [mode + 16]
        xor edx, edx
row:    push edi
        xor ecx, ecx
pixel:  mov eax, ecx            ; red by column, green by row, blue by both
        shl eax, 16
        mov ah, dl
        mov ebx, ecx
        xor ebx, edx
        mov al, bl
        and eax, 0xffffff
        stosd
        inc ecx
        cmp ecx, 800
        jne pixel
        pop edi
        add edi, ebp
        inc edx
        cmp edx, 600
        jne row
halt:   hlt
        jmp halt
        signature
controller equ 0x8000
mode equ 0x8400
