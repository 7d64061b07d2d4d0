; Multiboot 2: the header, its tags, and the information that the loader hands over.
        bits 32
section .text.unlikely
header: dd 0xe85250d6, 0, header_end - header, -(0xe85250d6 + (header_end - header))
        dw 4, 1                 ; console flags: a text console, please
        dd 12
        dd 3
        align 8
        dw 0, 0
        dd 8
header_end:

section .text
global start
start:  mov esp, stack_top
        mov esi, eax
        push ebx
        mov edi, 0xb8000
        mov ecx, 1000
        mov eax, 0x07200720
        rep stosd
        pop ebx
        mov edi, 0xb8000
        mov eax, esi
        push ebx
        call hex8
        pop ebx
        mov esi, ebx            ; tags follow the total size and a reserved word
        add esi, 8
        xor ebp, ebp            ; a bit for each kind seen
.tag:   mov eax, [esi]
        mov ecx, [esi + 4]
        test eax, eax
        jz .end
        cmp eax, 32
        jae .next
        bts ebp, eax
        cmp eax, 4
        jne .next
        mov eax, [esi + 8]      ; kilobytes below 1 MiB
        push ecx
        add edi, 2
        call hex8
        pop ecx
.next:  lea esi, [esi + ecx + 7]
        and esi, ~7
        jmp .tag
.end:   and ebp, 1 << 6 | 1 << 4 | 1 << 1        ; memory map, basic memory, command line
        mov eax, ebp
        add edi, 2
        call hex8
        cli
halt:   hlt
        jmp halt

hex8:   mov ecx, 8
.digit: rol eax, 4
        mov edx, eax
        and edx, 15
        mov dl, [digits + edx]
        mov dh, 7
        mov [edi], dx
        mov ebx, edx
        push eax
        mov al, dl
        mov dx, 0x3f8
        out dx, al
        pop eax
        add edi, 2
        loop .digit
        ret
digits: db "0123456789abcdef"

section .bss
        resb 4096
stack_top:
