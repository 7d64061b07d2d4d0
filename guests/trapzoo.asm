# trapzoo: executes every instruction that a hypervisor can trap, once, and reports what each one did.
#
#   qemu-system-x86_64 -kernel trapzoo.bin -serial stdio
#
# One line each: "ok", or the exception it raised. Many exceptions are as they should be: SVM instructions are #UD while
# EFER.SVME is off, RDMSR of an unknown register is #GP. See try.inc for how an exception is survived.

.include "long.inc"
.include "text.inc"
.include "try.inc"

.equ SPARE_PORT, 0x5000         # a port that nobody answers
.equ SPARE_MEMORY, 0x3ff00000   # memory that nobody answers, as long as the machine has less than 1023 MiB
.equ STAR, 0xc0000081
.equ LSTAR, 0xc0000082
.equ SYSENTER_CS, 0x174
.equ SYSENTER_RSP, 0x175
.equ SYSENTER_RIP, 0x176

main:
    call catch_exceptions
    mov qword ptr [handlers + IRQ_BASE*8], on_timer
    mov qword ptr [handlers + 0x2f*8], on_nothing

    say "--- ports\n"
    mov edx, 0x80
    try {in al, 0x80}
    try {out 0x80, al}
    try {in al, dx}
    try {out dx, al}
    mov edx, SPARE_PORT
    try {in ax, dx}
    try {in eax, dx}
    try {out dx, ax}
    try {out dx, eax}
    mov edi, buffer
    try {insb}
    try {insw}
    try {insd}
    mov ecx, 4
    try {rep insb}
    mov ecx, 4
    try {rep insd}
    mov esi, buffer
    try {outsb}
    try {outsw}
    try {outsd}
    mov ecx, 4
    try {rep outsb}
    mov ecx, 4
    try {rep outsw}

    say "--- memory-mapped I/O\n"
    try {mov eax, [SPARE_MEMORY]}
    try {mov dword ptr [SPARE_MEMORY], 1}
    mov esi, SPARE_MEMORY
    mov edi, buffer
    mov ecx, 2
    try {rep movsd}

    say "--- model-specific registers\n"
    mov ecx, EFER
    try {rdmsr}                 # a try spoils AL: fetch again what is written back
    rdmsr
    attempt "wrmsr", {wrmsr}
    mov ecx, 0x4b564dff
    attempt "rdmsr of an unknown register", {rdmsr}
    xor eax, eax
    xor edx, edx
    attempt "wrmsr of an unknown register", {wrmsr}

    say "--- processor identification\n"
    xor eax, eax
    try {cpuid}

    say "--- control and debug registers\n"
    try {mov rbx, cr0}
    try {mov cr0, rbx}
    try {mov rbx, cr2}
    try {mov cr2, rbx}
    try {mov rbx, cr3}
    try {mov cr3, rbx}
    try {mov rbx, cr4}
    try {mov cr4, rbx}
    try {mov rbx, cr8}
    try {mov cr8, rbx}
    try {mov rbx, dr0}
    try {mov dr0, rbx}
    try {mov rbx, dr1}
    try {mov dr1, rbx}
    try {mov rbx, dr2}
    try {mov dr2, rbx}
    try {mov rbx, dr3}
    try {mov dr3, rbx}
    try {mov rbx, dr6}
    try {mov dr6, rbx}
    try {mov rbx, dr7}
    try {mov dr7, rbx}
    try {clts}
    try {smsw rbx}
    try {smsw word ptr [buffer]}
    try {lmsw bx}

    say "--- descriptor tables\n"
    try {sgdt [buffer]}
    try {lgdt [buffer]}
    try {sidt [buffer]}
    try {lidt [buffer]}
    try {sldt ax}
    xor ebx, ebx
    try {lldt bx}
    try {str bx}
    mov byte ptr [gdt_task + 5], 0x89           # available again: LTR refuses a busy TSS
    try {ltr bx}

    say "--- waiting\n"
    mov ax, 11932               # 100 Hz: something must wake us up
    call start_timer
    try {sti; hlt; cli}
    try {pause}
    mov eax, buffer
    xor ecx, ecx
    xor edx, edx
    try {monitor}
    xor eax, eax
    try {sti; mwait; cli}
    call stop_timer

    say "--- caches and the TLB\n"
    try {invlpg [buffer]}
    try {wbinvd}
    try {invd}

    say "--- counters\n"
    try {rdtsc}
    try {rdtscp}
    xor ecx, ecx
    try {rdpmc}

    say "--- software interrupts\n"
    try {int 0x2f}
    attempt "int 0x80 (no such gate)", {int 0x80}
    try {int3}
    try {int1}
    try {ud2}
    attempt "iretq", {call return_by_iretq}
    try {pushfq; popfq}
    pushfq
    pop rax
    or rax, 1 << 8
    attempt "popfq with TF", {push rax; popfq; nop}

    say "--- system calls\n"
    mov ecx, STAR
    xor eax, eax
    mov edx, SYSRET_BASE << 16 | KERNEL_CODE
    wrmsr
    mov ecx, LSTAR
    mov eax, on_syscall
    xor edx, edx
    wrmsr
    attempt "syscall", {syscall}
    mov rcx, user_code + USER
    mov r11d, 2
    mov rdx, user_stack_top + USER
    attempt "sysretq, syscall", {mov rsp, rdx; sysretq}
    mov ecx, SYSENTER_CS
    xor eax, eax
    xor edx, edx
    wrmsr
    attempt "sysenter without a code segment", {sysenter}
    mov ecx, SYSENTER_CS
    mov eax, KERNEL_CODE
    wrmsr
    mov ecx, SYSENTER_RSP
    mov eax, stack_top - 8192
    wrmsr
    mov ecx, SYSENTER_RIP
    mov eax, end_try
    wrmsr
    attempt "sysenter", {sysenter}
    mov rdx, user_code + USER
    mov rcx, user_stack_top + USER
    attempt "sysexitq, syscall", {sysexitq}
    try {swapgs}

    say "--- random numbers\n"
    mov eax, 1
    cpuid
    test ecx, 1 << 30
    jz no_rdrand
    try {rdrand rax}
no_rdrand:
    xor eax, eax
    cpuid
    cmp eax, 7
    jb no_rdseed
    mov eax, 7
    xor ecx, ecx
    cpuid
    test ebx, 1 << 18
    jz no_rdseed
    try {rdseed rax}
no_rdseed:

    say "--- hypercalls and extended state\n"
    xor eax, eax
    try {vmmcall}
    try {vmcall}
    xor ecx, ecx
    try {xgetbv}
    mov eax, 1
    xor edx, edx
    try {xsetbv}

    say "--- SVM\n"
    mov eax, 0x1000
    try {vmrun}
    try {vmload}
    try {vmsave}
    try {stgi}
    try {clgi}
    try {invlpga}
    try {skinit}

    say "trapzoo: "
    mov rax, [tries]
    call print_decimal
    say " instructions, "
    mov rax, [exceptions]
    call print_decimal
    say " exceptions\n"
    ret

# --- what the tries need ------------------------------------------------------------------------------------------------

on_timer:
    mov al, 0x20
    out 0x20, al
on_nothing:
    mov rax, rdi
    ret

return_by_iretq:                # IRETQ to our caller, in the same ring
    pop rax
    mov rbx, rsp
    push KERNEL_DATA
    push rbx
    push 2
    push KERNEL_CODE
    push rax
    iretq

on_syscall:                     # from ring 0 we go on where we were; from ring 3 the try is over
    mov rax, rcx
    shr rax, 30
    jnz end_try
    jmp rcx

user_code:                      # ring 3
    syscall

    .align 16
buffer:
    .skip 64
    .skip 256
user_stack_top:

.include "long_bss.inc"
memory_end:
