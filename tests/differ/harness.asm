; Runs a table of programs in long mode, one after the other, and keeps the state that each ends in. tests/differ/image.py
; puts the page tables, descriptors, programs and clean copies of the pages behind this code; layout.inc names their places.
%include "layout.inc"
org BASE
bits 32
header:
    dd 0x1BADB002, 0x10000, -(0x1BADB002 + 0x10000)
    dd header, BASE, IMAGE_END, 0, start

start:
    cli
    mov esp, STACK_TOP
    mov al, 0xFF
    out 0x21, al
    out 0xA1, al
    mov eax, HARNESS_CR4
    mov cr4, eax
    mov eax, TOP_TABLE
    mov cr3, eax
    mov ecx, 0xC0000080
    mov eax, 0x901                  ; NXE, LME, SCE
    xor edx, edx
    wrmsr
    lgdt [first_gdtr]
    mov eax, HARNESS_CR0
    mov cr0, eax
    jmp 8:long_start
first_gdtr:
    dw 0xFFF
    dd FIRST_GDT

bits 64
default abs
long_start:
    mov ecx, 0xC0000081             ; STAR
    xor eax, eax
    mov edx, 0x001B0008
    wrmsr
    inc ecx                         ; LSTAR
    mov eax, from_syscall
    xor edx, edx
    wrmsr
    inc ecx                         ; CSTAR
    mov eax, from_compat_syscall
    wrmsr
    inc ecx                         ; SFMASK
    mov eax, 0x47700
    wrmsr
    mov ecx, 0x1B                   ; no local APIC
    rdmsr
    and ah, ~8
    wrmsr
    mov ebx, PROGRAMS

next:
    mov esp, STACK_TOP
    cmp ebx, [count]
    jae done
    mov eax, HARNESS_CR0
    mov cr0, rax
    mov eax, HARNESS_CR4
    mov cr4, rax
    xor eax, eax
    mov dr7, rax
    cld
    mov esi, CLEAN                  ; all pages and tables of the programs
    mov edi, ALIAS
    mov ecx, LIVE_SIZE / 8
    rep movsq
    mov eax, TOP_TABLE
    mov cr3, rax
    lgdt [gdtr]
    lidt [idtr]
    mov eax, TR_SELECTOR
    ltr ax
    mov eax, [rbx + IN_LDT]
    lldt ax
    xor eax, eax
    mov cr2, rax
    mov dr1, rax
    mov dr2, rax
    mov dr3, rax
    mov [steps], rax
    mov [hash], rax
    mov eax, 0xFFFF0FF0
    mov dr6, rax
    lea rsi, [rbx + IN_CODE]
    mov rdi, [rbx + IN_PLACE]
    add rdi, ALIAS - LIVE
    mov ecx, CODE_SIZE
    rep movsb
    fninit
    fxrstor64 [rbx + IN_FX]
    mov eax, [rbx + IN_DS]
    mov ds, eax
    mov eax, [rbx + IN_ES]
    mov es, eax
    mov eax, [rbx + IN_FS]
    mov fs, eax
    mov eax, [rbx + IN_GS]
    mov gs, eax
    mov ecx, 0xC0000100
    lea rsi, [rbx + IN_BASES]
.base:
    cmp dword [rsi], -1             ; the descriptor's
    je .kept
    mov eax, [rsi]
    mov edx, [rsi + 4]
    wrmsr
.kept:
    add rsi, 8
    inc ecx
    cmp ecx, 0xC0000103
    jb .base
    mov rax, [rbx + IN_DR0]
    mov dr0, rax
    mov rax, [rbx + IN_DR7]
    mov dr7, rax
    push qword [rbx + IN_SS]
    push qword [rbx + IN_RSP]
    push qword [rbx + IN_RFLAGS]
    push qword [rbx + IN_CS]
    push qword [rbx + IN_RIP]
    mov rax, [rbx + IN_CR4]
    mov cr4, rax
    mov rax, [rbx + IN_CR0]
    mov cr0, rax
    mov [current], rbx
%macro load 2
    mov %1, [rbx + IN_REGS + %2 * 8]
%endmacro
    load rax, 0
    load rcx, 1
    load rdx, 2
    load rbp, 5
    load rsi, 6
    load rdi, 7
    load r8, 8
    load r9, 9
    load r10, 10
    load r11, 11
    load r12, 12
    load r13, 13
    load r14, 14
    load r15, 15
    load rbx, 3
    iretq

done:
    mov al, 0x10
    out 0xF4, al
    hlt

from_syscall:
    int 0x83
from_compat_syscall:
    int 0x84
from_gate:
    int 0x82

; One stub for each vector: 16 bytes.
align 16
stubs:
%assign vector 0
%rep 256
    align 16
%if vector = 8 || (vector >= 10 && vector <= 14) || vector = 17
%else
    push 0
%endif
    push vector
    jmp near handler
%assign vector vector + 1
%endrep
    align 16

handler:
    mov [out + OUT_REGS + 0], rax
    mov [out + OUT_REGS + 8], rcx
    mov [out + OUT_REGS + 16], rdx
    mov [out + OUT_REGS + 24], rbx
    mov [out + OUT_REGS + 40], rbp
    mov [out + OUT_REGS + 48], rsi
    mov [out + OUT_REGS + 56], rdi
    mov [out + OUT_REGS + 64], r8
    mov [out + OUT_REGS + 72], r9
    mov [out + OUT_REGS + 80], r10
    mov [out + OUT_REGS + 88], r11
    mov [out + OUT_REGS + 96], r12
    mov [out + OUT_REGS + 104], r13
    mov [out + OUT_REGS + 112], r14
    mov [out + OUT_REGS + 120], r15
%assign n 0
%rep 7                              ; vector, error code, RIP, CS, RFLAGS, RSP, SS
    mov rax, [rsp + n * 8]
    mov [out + n * 8], rax
%assign n n + 1
%endrep
    mov rax, [rsp + 40]
    mov [out + OUT_REGS + 32], rax
    mov rax, dr6
    mov [out + OUT_DR6], rax
    mov rcx, cr2
    mov [out + OUT_CR2], rcx
    cmp dword [rsp], 1
    jne finish
    test ah, 0x40                   ; BS
    jz finish
    mov rcx, [steps]
    inc rcx
    mov [steps], rcx
    cmp ecx, MOST_STEPS
    ja finish
    mov rcx, [hash]
    add rcx, rax
    mov esi, out
    mov edx, (OUT_REGS + 128) / 8
.fold:
    rol rcx, 7
    add rcx, [rsi]                  ; not CRC32: the program may have set CR0.TS
    add esi, 8
    dec edx
    jnz .fold
    mov [hash], rcx
    mov eax, 0xFFFF0FF0
    mov dr6, rax
    mov rax, [out + OUT_REGS + 0]
    mov rcx, [out + OUT_REGS + 8]
    mov rdx, [out + OUT_REGS + 16]
    mov rsi, [out + OUT_REGS + 48]
    add rsp, 16
    iretq

finish:
    mov rax, cr0
    mov [out + OUT_CR0], rax
    mov rax, cr4
    mov [out + OUT_CR4], rax
    mov eax, HARNESS_CR0
    mov cr0, rax
    mov eax, HARNESS_CR4
    mov cr4, rax
    mov rax, dr7
    mov [out + OUT_DR7], rax
    xor eax, eax
    mov dr7, rax
    mov ax, ds
    mov [out + OUT_DS], rax
    mov ax, es
    mov [out + OUT_ES], rax
    mov ax, fs
    mov [out + OUT_FS], rax
    mov ax, gs
    mov [out + OUT_GS], rax
    sldt ax
    mov [out + OUT_LDTR], rax
    str ax
    mov [out + OUT_TR], rax
    sgdt [out + OUT_GDTR]
    sidt [out + OUT_IDTR]
    fxsave64 [out + OUT_FX]
    mov edi, out + OUT_BASES
    mov ecx, 0xC0000100
.base:
    rdmsr
    mov [rdi], eax
    mov [rdi + 4], edx
    add edi, 8
    inc ecx
    cmp ecx, 0xC0000103
    jb .base
    mov rax, [steps]
    mov [out + OUT_STEPS], rax
    mov rax, [hash]
    mov [out + OUT_STEP_HASH], rax
    mov edi, out + OUT_PAGES        ; a checksum for each page
    mov esi, ALIAS
.page:
    xor eax, eax
    mov ecx, 512
.word:
    crc32 rax, qword [rsi]
    add esi, 8
    dec ecx
    jnz .word
    mov [rdi], eax
    add edi, 4
    cmp esi, ALIAS + LIVE_SIZE
    jb .page
    cld
    mov rbx, [current]
    mov rdi, [place]
    mov esi, out
    mov ecx, OUT_SIZE / 8
    rep movsq
    mov [place], rdi
    inc qword [RESULTS - 8]
    add rbx, IN_SIZE
    jmp next

gdtr:
    dw GDT_LIMIT
    dq GDT
idtr:
    dw 0xFFF
    dq IDT
align 8
current: dq 0
steps: dq 0
hash: dq 0
place: dq RESULTS
count: dd PROGRAMS_END
align 64
out: times OUT_SIZE db 0
