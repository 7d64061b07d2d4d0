; Runs a table of programs, each in its mode, one after the other, and keeps the state that each ends in. tests/differ/image.py
; puts the page tables, descriptors, programs and clean copies of the pages behind this code; layout.inc names their places.
;
; The harness is in long mode. A program of protected or real mode is begun by leaving it, and its end comes back.
%include "layout.inc"
%macro enter_long 1
    lgdt [first_gdtr]
    mov eax, HARNESS_CR4
    mov cr4, eax
    mov eax, TOP_TABLE
    mov cr3, eax
    mov ecx, 0xC0000080
    mov eax, 0x901                  ; NXE, LME, SCE
    xor edx, edx
    wrmsr
    mov eax, HARNESS_CR0
    mov cr0, eax
    jmp 8:%1
%endmacro
org BASE
bits 32
header:
    dd 0x1BADB002, 0x10000, -(0x1BADB002 + 0x10000)
    dd header, BASE, IMAGE_END, 0, start

start:
    cli
    mov al, 0xFF
    out 0x21, al
    out 0xA1, al
    enter_long long_start

bits 64
default abs
long_start:
    mov ecx, 0xC0000081             ; STAR
    mov eax, from_syscall
    mov edx, 0x001B0008
    wrmsr
    inc ecx                         ; LSTAR
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
    lgdt [first_gdtr]
    push 2
    popfq
    cmp ebx, [count]
    jae done
    xor eax, eax
    mov dr7, rax
    mov edi, out
    mov ecx, OUT_SIZE / 8
    rep stosq
    mov esi, [rbx + IN_CLEAN]       ; all pages and tables of the programs
    mov edi, ALIAS
    mov ecx, LIVE_SIZE / 8
    rep movsq
    lea rsi, [rbx + IN_CODE]
    mov rdi, [rbx + IN_PLACE]
    mov ecx, CODE_SIZE
    rep movsb
    mov esi, ebx
    mov edi, record
    mov ecx, IN_FX / 8
    rep movsq
    mov eax, HARNESS_CR4 ^ 0x80     ; a change of PGE: global translations, too
    mov cr4, rax
    mov eax, HARNESS_CR4
    mov cr4, rax
    xor eax, eax
    mov cr2, rax
    mov dr0, rax
    mov dr1, rax
    mov dr2, rax
    mov dr3, rax
    mov [steps], rax
    mov [hash], rax
    mov eax, 0xFFFF0FF0
    mov dr6, rax
    fninit
    fxrstor64 [rbx + IN_FX]
    mov [current], rbx
    mov ecx, 0xC0000102
    mov eax, [record + IN_BASES + 16]
    mov edx, [record + IN_BASES + 20]
    wrmsr
    cmp byte [record + IN_KIND], LONG_MODE
    jne legacy
    lgdt [record + IN_GDTR]
    lidt [record + IN_IDTR]
    mov eax, TR_SELECTOR
    ltr ax
    mov eax, [record + IN_LDT]
    lldt ax
    mov ds, [record + IN_DS]
    mov es, [record + IN_ES]
    mov fs, [record + IN_FS]
    mov gs, [record + IN_GS]
    mov ecx, 0xC0000100
    mov esi, record + IN_BASES
.base:
    cmp dword [rsi], -1             ; the descriptor's
    je .kept
    mov eax, [rsi]
    mov edx, [rsi + 4]
    wrmsr
.kept:
    add rsi, 8
    inc ecx
    cmp ecx, 0xC0000102
    jb .base
    push qword [record + IN_SS]
    push qword [record + IN_RSP]
    push qword [record + IN_RFLAGS]
    push qword [record + IN_CS]
    push qword [record + IN_RIP]
    mov rax, [record + IN_CR4]
    mov cr4, rax
    mov rax, [record + IN_CR0]
    mov cr0, rax
%macro load 2
    mov %1, [record + IN_REGS + %2 * 8]
%endmacro
    load rax, 0
    load rcx, 1
    load rdx, 2
    load rbx, 3
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
    iretq

done:
    mov al, 0x10
    out 0xF4, al
    hlt

; To a mode without long mode. Without paging, programs find INT3 around their pages.
legacy:
    mov rax, [record + IN_CR0]
    bt eax, 31
    jc .paged
    mov rax, 0xCCCCCCCCCCCCCCCC
    mov edi, ALIAS - LIVE_SIZE
    mov ecx, LIVE_SIZE / 8
    rep stosq
    mov edi, ALIAS + LIVE_SIZE
    mov ecx, LIVE_SIZE / 8
    rep stosq
.paged:
    push 0x30
    push to_legacy
    retfq

from_syscall:
    int 0x83
from_compat_syscall:
    int 0x84
from_gate:
    int 0x82

; What the harness does in 32-bit code and in real mode alike: words and addresses of each.
%macro code_of 1
bits %1
%if %1 == 16
  %define word_ word
  %define at_(x) ((x) - header + BASE - REAL_SEGMENT * 16)
  %define DATA_ REAL_SEGMENT
%else
  %define word_ dword
  %define at_(x) x
  %define DATA_ 0x10
%endif
%define in_(x) at_(record + IN_ %+ x)
%define out_(x) at_(out + OUT_ %+ x)

; The state that a program begins with. The stack is that of ring 0 of the program, or the harness's for one in ring 3.
begin%1:
    mov es, [in_(ES)]
    mov fs, [in_(FS)]
    mov gs, [in_(GS)]
    test byte [in_(KIND)], PROTECTED_MODE
    jz .inner
    test byte [in_(CS)], 3
    jz .inner
    push word_ [in_(SS)]
    push word_ [in_(RSP)]
    jmp .begin
.inner:
    lss esp, [in_(STACK)]
.begin:
    push word_ [in_(RFLAGS)]
    push word_ [in_(CS)]
    push word_ [in_(RIP)]
    mov ecx, [in_(REGS) + 8]
    mov edx, [in_(REGS) + 16]
    mov ebx, [in_(REGS) + 24]
    mov ebp, [in_(REGS) + 40]
    mov esi, [in_(REGS) + 48]
    mov edi, [in_(REGS) + 56]
    push word_ [in_(DS)]
    push dword [in_(REGS)]
    pop eax
    pop ds
    iret

; The end of a program, or of a step.
handler%1:
    push eax
    mov eax, ds
    push eax
    mov ax, DATA_
    mov ds, ax
    pop dword [out_(DS)]
    pop dword [out_(REGS)]
    mov [out_(REGS) + 8], ecx
    mov [out_(REGS) + 16], edx
    mov [out_(REGS) + 24], ebx
    mov [out_(REGS) + 40], ebp
    mov [out_(REGS) + 48], esi
    mov [out_(REGS) + 56], edi
    pop word_ [at_(out)]            ; vector
%if %1 == 32
    pop dword [out + 8]             ; error code
%endif
    pop word_ [at_(out) + 16]       ; RIP
    pop word_ [at_(out) + 24]       ; CS
    pop word_ [at_(out) + 32]       ; RFLAGS
    mov [at_(out) + 40], esp
    mov [at_(out) + 48], ss
%if %1 == 32
    test byte [out + 24], 3
    jz .kept
    pop dword [out + 40]            ; RSP
    pop dword [out + 48]            ; SS
.kept:
%endif
    mov eax, cr2
    mov [out_(CR2)], eax
    mov eax, dr6
    mov [out_(DR6)], eax
    cmp byte [at_(out)], 1
    jne .finish
    test ah, 0x40                   ; BS
    jz .finish
    mov ecx, [at_(steps)]
    inc ecx
    mov [at_(steps)], ecx
    cmp ecx, MOST_STEPS
    ja .finish
    mov ecx, [at_(hash)]
    add ecx, eax
    mov esi, at_(out)
    mov edx, (OUT_REGS + 128) / 4
.fold:
    rol ecx, 7
    add ecx, [esi]
    add esi, 4
    dec edx
    jnz .fold
    mov [at_(hash)], ecx
    mov eax, 0xFFFF0FF0
    mov dr6, eax
%if %1 == 32
    test byte [out + 24], 3
    jz .inner
    push dword [out + 48]
    push dword [out + 40]
.inner:
%endif
    push word_ [at_(out) + 32]
    push word_ [at_(out) + 24]
    push word_ [at_(out) + 16]
    mov ecx, [out_(REGS) + 8]
    mov edx, [out_(REGS) + 16]
    mov esi, [out_(REGS) + 48]
    push word_ [out_(DS)]
    push dword [out_(REGS)]
    pop eax
    pop ds
    iret
.finish:
    times 9 push word_ 0            ; over the frame, which is told once
    mov eax, cr0
    mov [out_(CR0)], eax
    mov eax, cr4
    mov [out_(CR4)], eax
    mov [out_(ES)], es
    mov [out_(FS)], fs
    mov [out_(GS)], gs
    sgdt [out_(GDTR)]
    sidt [out_(IDTR)]
%endmacro

code_of 32
back:
    mov eax, 0x10
    mov ds, eax
    mov ss, eax
    mov esp, STACK_TOP
    mov eax, HARNESS_CR0 & 0x7FFFFFFF
    mov cr0, eax
    enter_long collect

; The task of #DF. What it interrupted is in the TSS, which is in the programs' pages.
double_fault:
    push 8
    jmp handler32

to_legacy:
    mov eax, 0x10
    mov ds, eax
    mov eax, HARNESS_CR0 & 0x7FFFFFFF
    mov cr0, eax
    mov ecx, 0xC0000080
    mov eax, 0x801
    xor edx, edx
    wrmsr
    mov eax, [record + IN_CR3]
    mov cr3, eax
    mov [FAULT_TSS + 28], eax
    mov eax, [record + IN_CR4]
    mov cr4, eax
    cmp byte [record + IN_KIND], REAL_MODE
    je .real
    lgdt [record + IN_GDTR]
    lidt [record + IN_IDTR]
    mov eax, [record + IN_CR0]
    mov cr0, eax
    mov eax, 0x10
    mov ds, eax
    mov ss, eax
    mov esp, STACK_TOP
    mov eax, TR_SELECTOR
    ltr ax
    lldt [record + IN_LDT]
    jmp begin32
.real:
    mov eax, 0x40                   ; 16 bits
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    jmp 0x38:(to_real - header + BASE - REAL_SEGMENT * 16)

code_of 16
    o32 lgdt [at_(first_gdtr)]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp dword 0x30:back

to_real:
    mov eax, [in_(CR0)]
    mov cr0, eax
    jmp REAL_SEGMENT:at_(.real)
.real:
    mov ax, REAL_SEGMENT
    mov ds, ax
    o32 lgdt [in_(GDTR)]
    o32 lidt [in_(IDTR)]
    jmp begin16

; One stub for each vector and width: 16 bytes.
%macro stubs_of 1
bits %1
align 16
stubs%1:
%assign vector 0
%rep 256
    align 16
%if %1 != 16 && vector != 8 && (vector < 10 || vector > 14) && vector != 17
    push 0
%endif
    push vector
    jmp near handler%1
%assign vector vector + 1
%endrep
    align 16
%endmacro
stubs_of 16
stubs_of 32
stubs_of 64

handler64:
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
    mov [out + OUT_DS], ds
    mov [out + OUT_ES], es
    mov [out + OUT_FS], fs
    mov [out + OUT_GS], gs
    sgdt [out + OUT_GDTR]
    sidt [out + OUT_IDTR]

; What stays when the mode changes, and the pages.
collect:
    mov al, [record + IN_KIND]
    mov [out + OUT_KIND], al
    mov rax, dr7
    mov [out + OUT_DR7], rax
    xor eax, eax
    mov dr7, rax
    sldt [out + OUT_LDTR]
    str [out + OUT_TR]
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

first_gdtr:
    dw 0xFFF
    dq FIRST_GDT
align 8
current: dq 0
steps: dq 0
hash: dq 0
place: dq RESULTS
count: dd PROGRAMS_END
align 64
record: times IN_FX db 0
out: times OUT_SIZE db 0
