; Multiboot 2 with a framebuffer tag: GRUB sets a VESA mode, and the kernel draws where the loader's information says.
        bits 32
section .text.unlikely
header: dd 0xe85250d6, 0, header_end - header, -(0xe85250d6 + (header_end - header))
        dw 5, 0                 ; framebuffer, not optional
        dd 20
        dd 800, 600, 32
        align 8
        dw 0, 0
        dd 8
header_end:

section .text
global start
start:  mov esp, stack_top
        lea esi, [ebx + 8]      ; tags follow the total size and a reserved word
.tag:   mov eax, [esi]
        test eax, eax
        jz failed
        cmp eax, 8
        je draw
        mov ecx, [esi + 4]
        lea esi, [esi + ecx + 7]
        and esi, ~7
        jmp .tag
draw:   mov eax, [esi + 8]      ; address, bytes of a row, size, bits of a pixel and kind
        call hex8
        mov eax, [esi + 16]
        call hex8
        mov eax, [esi + 20]
        call hex8
        mov eax, [esi + 24]
        call hex8
        movzx eax, word [esi + 28]
        call hex8
        mov edi, [esi + 8]
        xor edx, edx            ; row
.row:   xor ecx, ecx            ; column
.pixel: mov eax, ecx
        shl eax, 8
        xor eax, edx
        imul eax, eax, 0x10205
        and eax, 0xffffff
        mov [edi + 4 * ecx], eax
        inc ecx
        cmp ecx, [esi + 20]
        jb .pixel
        add edi, [esi + 16]
        inc edx
        cmp edx, [esi + 24]
        jb .row
failed: cli
halt:   hlt
        jmp halt

hex8:   mov ecx, 8
        mov edx, 0x3f8
.digit: rol eax, 4
        push eax
        and eax, 15
        mov al, [digits + eax]
        out dx, al
        pop eax
        loop .digit
        mov al, ' '
        out dx, al
        ret
digits: db "0123456789abcdef"

section .bss
        resb 4096
stack_top:
