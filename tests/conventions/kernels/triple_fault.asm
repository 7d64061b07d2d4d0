; Reboot by a triple fault: an empty IDT and an interrupt.
        bits 32
section .text
        align 4
        dd 0x1badb002, 0, -0x1badb002

global start
start:  mov edi, 0xb8000
        mov ecx, 1000
        mov eax, 0x07200720
        rep stosd
        mov dword [0xb8000], 0x0f680f4f
        mov word [0xb8004], 0x0f21
        mov dx, 0x3f8
        mov al, "!"
        out dx, al
        lidt [empty]
        int3
        hlt
empty:  dw 0
        dd 0
