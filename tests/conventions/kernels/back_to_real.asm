; A multiboot kernel that goes back to real mode and calls the BIOS there: how much memory, one tick of its clock, and a
; VESA mode, whose list it reads through a flat pointer. Then it draws in protected mode.
        bits 32
section .text
        align 4
        dd 0x1badb002, 0, -0x1badb002

low     equ 0x7c00                      ; where the code runs that real mode reaches
block   equ 0x8000
mode    equ 0x8400
%define at(label) (low + (label) - thunk)

global start
start:  cli
        cld
        mov esp, 0x7000
        mov esi, thunk
        mov edi, low
        mov ecx, thunk_end - thunk
        rep movsb
        mov esi, at(memory_and_tick)
        call real
        movzx ebp, word [at(kib)]
        mov dword [block], "VBE2"
        mov esi, at(what_there_is)
        call real
        cmp word [at(answer)], 0x004f
        jne failed
        mov ebx, [block + 14]           ; segment 0: the far pointer is a flat one, too
next:   movzx ecx, word [ebx]
        add ebx, 2
        cmp cx, 0xffff
        je failed
        mov [at(number)], cx
        mov esi, at(what_a_mode_is)
        call real
        cmp dword [mode + 18], 800 | 600 << 16
        jne next
        cmp byte [mode + 25], 32
        jne next
        mov esi, at(set_mode)
        call real
        mov edi, [mode + 40]
        xor edx, edx
row:    xor ecx, ecx
pixel:  mov eax, ecx
        shl eax, 14
        add eax, edx
        xor eax, ebp                    ; 639 KiB
        and eax, 0xffffff
        stosd
        inc ecx
        cmp ecx, 800
        jne pixel
        inc edx
        cmp edx, 600
        jne row
failed: cli
        hlt
        jmp failed

real:   push ebx                        ; call the real-mode routine at ESI
        lgdt [at(gdt_pointer)]
        jmp 24:at(leave)

thunk:
        bits 16
leave:  mov ax, 32
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov eax, cr0
        and al, 0xfe
        mov cr0, eax
        jmp 0:at(in_real)
in_real:
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        lidt [at(vectors)]
        sti
        call si
        cli
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword 8:at(back)
        bits 32
back:   mov ax, 16
        mov ds, ax
        mov es, ax
        mov ss, ax
        pop ebx
        ret
        bits 16
memory_and_tick:
        int 0x12
        mov [at(kib)], ax
        mov ax, [0x46c]
.wait:  hlt
        cmp ax, [0x46c]
        je .wait
        ret
what_there_is:
        mov ax, 0x4f00
        mov di, block
        int 0x10
        mov [at(answer)], ax
        ret
what_a_mode_is:
        mov ax, 0x4f01
        mov cx, [at(number)]
        mov di, mode
        int 0x10
        ret
set_mode:
        mov ax, 0x4f02
        mov bx, [at(number)]
        or bx, 0x4000
        int 0x10
        ret
kib:    dw 0
answer: dw 0
number: dw 0
vectors:
        dw 0x3ff
        dd 0
gdt_pointer:
        dw 39
        dd at(gdt)
gdt:    dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00009b000000ffff, 0x000093000000ffff
thunk_end:
