; Long mode's own system calls: SYSCALL and SYSRET, SWAPGS, and a page fault of ring 3 with NX.
        bits 32
section .text
        align 4
        dd 0x1badb002, 0, -0x1badb002
CODE equ 8
DATA equ 16
USER equ 24                     ; SYSRET takes USER + 16 for code and USER + 8 for the stack

global start
start:  mov edi, p4
        mov ecx, 0x3000 / 4
        xor eax, eax
        rep stosd
        mov dword [p4], p3 + 7
        mov dword [p3], p2 + 7
        mov dword [p2], 0x83            ; the kernel's 2 MiB
        mov dword [p2 + 8], 0x200087    ; the user's
        mov dword [p2 + 16], 0x400087   ; and a part without code
        mov dword [p2 + 20], 0x80000000
        mov eax, p4
        mov cr3, eax
        mov eax, cr4
        or eax, 1 << 5
        mov cr4, eax
        mov ecx, 0xc0000080
        rdmsr
        or eax, 1 << 8 | 1 | 1 << 11
        wrmsr
        mov eax, cr0
        or eax, 1 << 31
        mov cr0, eax
        lgdt [pointer]
        jmp CODE:long_mode

        bits 64
long_mode:
        mov ax, DATA
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov rsp, stack_top
        mov rdi, 0xb8000
        mov ecx, 500
        mov rax, 0x0720072007200720
        rep stosq
        mov rax, tss                    ; a TSS for the way up
        mov [gdt + 48 + 2], ax
        shr rax, 16
        mov [gdt + 48 + 4], al
        mov [gdt + 48 + 7], ah
        mov qword [tss + 4], stack_top
        mov ax, 48
        ltr ax
        mov rax, on_fault
        mov [idt + 14 * 16], ax
        mov word [idt + 14 * 16 + 2], CODE
        mov word [idt + 14 * 16 + 4], 0x8e00
        shr rax, 16
        mov [idt + 14 * 16 + 6], ax
        lidt [idt_pointer]
        mov ecx, 0xc0000081             ; STAR
        xor eax, eax
        mov edx, USER << 16 | CODE
        wrmsr
        inc ecx                         ; LSTAR
        mov eax, on_call
        xor edx, edx
        wrmsr
        mov ecx, 0xc0000084             ; FMASK
        mov eax, 0x200
        wrmsr
        mov ecx, 0xc0000101             ; GS for the user, and for us
        mov eax, 0x1111
        wrmsr
        inc ecx
        mov eax, percpu
        wrmsr
        mov rsi, user
        mov rdi, 0x200000
        mov ecx, user_end - user
        rep movsb
        mov dword [0x400000], 0xc3c3c3c3
        mov rcx, 0x200000
        mov r11, 0x202 & ~0x200
        mov rsp, 0x2ff000
        o64 sysret

on_call:
        swapgs
        mov [gs:8], rsp
        mov rsp, [gs:0]
        push rcx
        push r11
        mov dl, al
        call put
        pop r11
        pop rcx
        mov rsp, [gs:8]
        swapgs
        o64 sysret

on_fault:
        pop rax                         ; the error code
        and al, 15
        add al, "0"
        cmp al, "9"
        jbe .digit
        add al, 39
.digit: mov dl, al
        mov al, [rsp + 8]               ; CS
        xchg al, dl
        push rdx
        mov dl, al
        call put
        pop rdx
        and dl, 3
        add dl, "0"
        call put
        mov rax, cr2
        shr rax, 20
        add al, "0"
        mov dl, al
        call put
        cli
.halt:  hlt
        jmp .halt

put:    push rdi                        ; DL
        mov rdi, [place]
        mov [rdi], dl
        add qword [place], 2
        mov al, dl
        mov dx, 0x3f8
        out dx, al
        pop rdi
        ret

user:   mov al, "o"
        syscall
        mov al, "k"
        syscall
        mov al, " "
        syscall
        mov rax, 0x400000
        call rax                        ; nothing may be executed there
user_end:

section .data
        align 16
gdt:    dq 0, 0x00209a0000000000, 0x0000920000000000, 0, 0x0000f20000000000, 0x0020fa0000000000
        dq 0x0000890000000067, 0
pointer:
        dw 63
        dd gdt
idt_pointer:
        dw 511
        dq idt
place:  dq 0xb8000
percpu: dq stack_top, 0
tss:    times 104 db 0
        align 16
idt:    times 512 db 0

section .bss
        align 4096
p4:     resb 4096
p3:     resb 4096
p2:     resb 4096
        resb 4096
stack_top:
