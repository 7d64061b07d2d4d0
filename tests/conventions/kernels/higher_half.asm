; A higher-half kernel: linked at 3 GiB, loaded at 1 MiB, with one large page for both until the jump.
BASE equ 0xc0000000
        bits 32
section .text
        align 4
header: dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
        dd header, 0x100000, 0, 0, start        ; loaded as a flat image: the ELF addresses are all above 3 GiB

global start
start:  mov eax, cr4
        or eax, 0x10            ; pages of 4 MiB
        mov cr4, eax
        mov edi, directory
        mov ecx, 1024
        xor eax, eax
        rep stosd
        mov dword [directory], 0x83
        mov dword [directory + (BASE >> 22) * 4], 0x83
        mov eax, directory
        mov cr3, eax
        mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        mov eax, up + BASE
        jmp eax
up:     mov dword [directory + BASE], 0
        mov eax, cr3
        mov cr3, eax
        mov esp, stack + BASE
        mov edi, 0xb8000 + BASE
        mov ecx, 1000
        mov eax, 0x17201720
        rep stosd
        mov edi, 0xb8000 + BASE
        mov esi, text + BASE
        mov ah, 0x1f
.next:  lodsb
        test al, al
        jz .end
        stosw
        mov dx, 0x3f8
        out dx, al
        jmp .next
.end:   call .here
.here:  pop eax
        shr eax, 28
        add al, "0"
        cmp al, "9"
        jbe .digit
        add al, 39
.digit: mov ah, 0x1f
        stosw
        cli
halt:   hlt
        jmp halt
text:   db "running at ", 0
        align 4096
directory equ 0x200000
stack equ 0x300000
