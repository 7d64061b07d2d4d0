# Microbenchmarks: one multiboot image, "TEST N" at the end of its command line says what to do and how often.
#
#    1 syscall + sysret         7 MMIO read                   13 RDMSR
#    2 page fault + iret        8 timer interrupts, HLT       14 hypercall (VMMCALL)
#    3 int 0x80 + iret          9 integer loop                15 idle: HLT with interrupts off
#    4 TLB miss                10 sieve                       16 timer interrupts, busy
#    5 stores after TLB misses 11 call and return
#    6 port write              12 CPUID                       17 two threads, preempted 1000 times a second
#                                                             18 a full-screen redraw in mode 13h
#                                                             19 eight sectors by PIO from the first IDE disk
#                                                             20 x87 loop, 21 SSE2 loop
#                                                             22 PM timer, 23 HPET, 24 counter 2 of the PIT
#
# It ends by writing 0x10 to the debug-exit port 0xf4 (0x20 if a computation gave a wrong result), which makes the
# exit status 33 (65). Anything unexpected is a triple fault. Tests 1, 2, 3, 9, 10, 11, 20 and 21 run in ring 3, all
# others in ring 0. Nothing reads a clock: the host measures, and subtracts a run with N = 0.

.code32
.org 0x100000

.equ CMDLINE, 16                # in the multiboot information block
.equ EXIT_PORT, 0xf4
.equ MMIO_REG, 0xfee00030       # version register of the local APIC in QEMU: reading it changes nothing
.equ PM_TIMER, 0x608            # where QEMU's firmware puts it, too
.equ HPET, 0xfed00000
.equ FLAGS, 0x10002             # memory information, and the addresses below
.equ SIEVE, 0x400000            # 64 KiB of flags, one byte for each number
.equ SIEVE_SIZE, 0x10000
.equ PRIMES, 6542               # below 65536
.equ WALK, 0x1000000            # 2048 pages that nothing else touches
.equ WALK_PAGES, 2048
.equ FIB, 20                    # fib(20) = 6765 takes 21891 calls
.equ FIB_RESULT, 6765
.equ PIT_DIVISOR, 24            # 49.7 kHz asked for
.equ PREEMPT_DIVISOR, 1193      # 1 kHz
.equ SLICE_WORK, 1000           # rounds of work for one of N

image:
    .align 4
header:
    .dword 0x1BADB002, FLAGS, -(0x1BADB002 + FLAGS)
    .dword header, image, image_end, bss_end, entry32

entry32:
    cli
    cld
    mov esp, stack_top
    # The last two words of the command line, as decimal numbers.
    mov esi, [ebx + CMDLINE]
    xor edi, edi
    xor ecx, ecx
.character:
    lodsb
    cmp al, 0
    je .parsed
    cmp al, ' '
    jne .digit
    mov edi, ecx
    xor ecx, ecx
    jmp .character
.digit:
    imul ecx, ecx, 10
    sub al, '0'
    movzx eax, al
    add ecx, eax
    jmp .character
.parsed:
    mov [test_id], edi
    mov [count], ecx
    # The first GiB and the last GiB below 4 GiB, identity-mapped by 2 MiB pages that ring 3 may use.
    mov eax, pdpt
    or eax, 7
    mov [pml4], eax
    mov eax, pd_low
    or eax, 7
    mov [pdpt], eax
    mov eax, pd_high
    or eax, 7
    mov [pdpt + 24], eax
    xor ecx, ecx
.page:
    mov eax, ecx
    shl eax, 21
    or eax, 0x87
    mov [pd_low + ecx * 8], eax
    or eax, 0xc0000000
    mov [pd_high + ecx * 8], eax
    inc ecx
    cmp ecx, 512
    jb .page
    mov eax, cr4
    or eax, 0x620                   # PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, pml4
    mov cr3, eax
    mov ecx, 0xc0000080             # EFER: LME and SCE
    rdmsr
    or eax, 0x101
    wrmsr
    mov eax, cr0
    and eax, 0xfffffffb
    or eax, 0x80000003
    mov cr0, eax
    lgdt [gdtr]
    jmp 8:entry64

.code64
entry64:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov rsp, stack_top
    # Task state segment: only the ring 0 stack matters.
    mov rax, tss
    mov [gdt_tss + 2], ax
    shr rax, 16
    mov [gdt_tss + 4], al
    mov [gdt_tss + 7], ah
    mov rax, stack_top
    mov [tss + 4], rax
    mov eax, 0x28
    ltr ax
    mov edi, 14
    mov rax, page_fault
    mov bl, 0x8e
    call set_gate
    mov edi, 0x20
    mov rax, tick
    call set_gate
    mov edi, 0x27
    mov rax, spurious
    call set_gate
    mov edi, 0x80
    mov rax, int80
    mov bl, 0xee
    call set_gate
    mov edi, 0x81
    mov rax, finish
    call set_gate
    lidt [idtr]
    mov ecx, 0xc0000081             # STAR: kernel 0x08, user 0x1b and 0x23
    xor eax, eax
    mov edx, 0x00130008
    wrmsr
    mov ecx, 0xc0000082             # LSTAR
    mov rax, syscall_entry
    xor edx, edx
    wrmsr
    mov ecx, 0xc0000084             # FMASK: interrupts off
    mov eax, 0x200
    xor edx, edx
    wrmsr
    # RBX counts down in every test# none is entered with 0.
    mov ebx, [count]
    test ebx, ebx
    jz done
    mov eax, [test_id]
    cmp eax, 24
    ja wrong
    jmp [tests + rax * 8]

# ---- ring 3 ----
to_user:                            # RAX: where to
    push 0x1b
    mov rcx, user_stack
    push rcx
    push 0x2
    push 0x23
    push rax
    iretq

start_syscall:
    mov rax, user_syscall
    jmp to_user
user_syscall:
    syscall
    dec ebx
    jnz user_syscall
    int 0x81

start_page_fault:
    mov rax, user_page_fault
    jmp to_user
user_page_fault:
    mov rdi, 0x7f00000000           # nothing is mapped there
.loop:
    mov rax, [rdi]                  # 3 bytes, which the handler skips
    dec ebx
    jnz .loop
    int 0x81

start_int80:
    mov rax, user_int80
    jmp to_user
user_int80:
    int 0x80
    dec ebx
    jnz user_int80
    int 0x81

start_integer:
    mov rax, user_integer
    jmp to_user
user_integer:                       # xorshift64 and a multiplication: registers only
    mov rax, 0x123456789abcdef
    mov r8, 0x2545f4914f6cdd1d
    xor r9d, r9d
.loop:
    mov rcx, rax
    shl rcx, 13
    xor rax, rcx
    mov rcx, rax
    shr rcx, 7
    xor rax, rcx
    mov rcx, rax
    shl rcx, 17
    xor rax, rcx
    mov rdx, rax
    imul rdx, r8
    add r9, rdx
    dec ebx
    jnz .loop
    int 0x81

start_sieve:
    mov rax, user_sieve
    jmp to_user
user_sieve:
    mov rdi, SIEVE
    mov ecx, SIEVE_SIZE / 8
    xor eax, eax
.clear:
    mov [rdi], rax
    add rdi, 8
    dec ecx
    jnz .clear
    mov rsi, SIEVE
    mov ecx, 2
    xor edx, edx                    # primes found
.candidate:
    cmp byte [rsi + rcx], 0
    jne .next
    inc edx
    mov edi, ecx
    add edi, ecx
.strike:
    cmp edi, SIEVE_SIZE
    jae .next
    mov byte [rsi + rdi], 1
    add edi, ecx
    jmp .strike
.next:
    inc ecx
    cmp ecx, SIEVE_SIZE
    jb .candidate
    cmp edx, PRIMES
    jne .wrong
    dec ebx
    jnz user_sieve
    int 0x81
.wrong:
    xor ebx, ebx
    not ebx                         # not zero: finish reports it
    int 0x81

start_x87:
    call enable_floating_point
    mov rax, user_x87
    jmp to_user
user_x87:                           # a step of a logistic map, kept in memory as a double
    mov rdi, SIEVE
    mov dword ptr [rdi], 3
    mov dword ptr [rdi + 4], 10
    fild dword ptr [rdi]
    fidiv dword ptr [rdi + 4]
    fstp qword ptr [rdi + 8]
    mov dword ptr [rdi], 39
    fild dword ptr [rdi]
    fidiv dword ptr [rdi + 4]       # 3.9 stays in ST(0)
.loop:
    fld1
    fsub qword ptr [rdi + 8]
    fmul qword ptr [rdi + 8]
    .byte 0xd8, 0xc9                # fmul st(0), st(1)
    fstp qword ptr [rdi + 8]
    dec ebx
    jnz .loop
    int 0x81

start_sse:
    call enable_floating_point
    mov rax, user_sse
    jmp to_user
user_sse:                           # the same in SSE2
    mov eax, 3
    cvtsi2sd xmm0, eax
    mov eax, 10
    cvtsi2sd xmm3, eax
    divsd xmm0, xmm3
    mov eax, 39
    cvtsi2sd xmm1, eax
    divsd xmm1, xmm3
    mov eax, 1
    cvtsi2sd xmm4, eax
.loop:
    movapd xmm2, xmm4
    subsd xmm2, xmm0
    mulsd xmm0, xmm2
    mulsd xmm0, xmm1
    dec ebx
    jnz .loop
    int 0x81

enable_floating_point:
    mov rax, cr0
    and eax, ~12                    # neither EM nor TS
    or eax, 2
    mov cr0, rax
    fninit
    ret

start_calls:
    mov rax, user_calls
    jmp to_user
user_calls:
    mov edi, FIB
    call fib
    cmp eax, FIB_RESULT
    jne .wrong
    dec ebx
    jnz user_calls
    int 0x81
.wrong:
    xor ebx, ebx
    not ebx
    int 0x81
fib:                                # EDI -> EAX
    cmp edi, 2
    jb .small
    push rdi
    dec edi
    call fib
    pop rdi
    push rax
    sub edi, 2
    call fib
    pop rcx
    add eax, ecx
    ret
.small:
    mov eax, edi
    ret

# ---- ring 0 ----
start_tlb:
    mov rsi, WALK
    mov ecx, WALK_PAGES
.load:
    mov rax, [rsi]
    add rsi, 4096
    dec ecx
    jnz .load
    mov rax, cr3
    mov cr3, rax
    dec ebx
    jnz start_tlb
    jmp done

start_stores:
    mov rsi, WALK
    mov ecx, WALK_PAGES
.store:
    mov [rsi], rax
    mov [rsi + 8], rax
    mov [rsi + 16], rax
    mov [rsi + 24], rax
    add rsi, 4096
    dec ecx
    jnz .store
    mov rax, cr3
    mov cr3, rax
    dec ebx
    jnz start_stores
    jmp done

start_port:
    mov al, 0x55
.loop:
    out 0x80, al
    dec ebx
    jnz .loop
    jmp done

start_redraw:                       # mode 13h by its registers, then 16000 stores of 4 pixels for each picture
    mov al, 0x63
    mov dx, 0x3c2
    out dx, al
    mov rsi, mode_13h
.registers:
    lodsw
    mov edx, eax
    and edx, 0xffff
    jz .ready
    lodsw
    movzx ecx, ax
.register:
    lodsw
    out dx, ax
    dec ecx
    jnz .register
    jmp .registers
.ready:
    xor eax, eax
.picture:
    mov edi, 0xa0000
    mov ecx, 16000
.pixels:
    mov [rdi], eax
    add eax, 0x01030507
    add rdi, 4
    dec ecx
    jnz .pixels
    dec ebx
    jnz .picture
    jmp done

start_ide:
    mov al, 2                       # no interrupts
    mov dx, 0x3f6
    out dx, al
    mov al, 0xe0
    mov dx, 0x1f6
    out dx, al
.command:
    mov al, 8
    mov dx, 0x1f2
    out dx, al
    xor eax, eax
    inc edx
    out dx, al
    inc edx
    out dx, al
    inc edx
    out dx, al
    mov al, 0x20
    mov dx, 0x1f7
    out dx, al
    mov ebp, 8
.sector:
    in al, dx
    test al, 0x80
    jnz .sector
    test al, 8
    jz wrong
    mov edi, SIEVE
    mov ecx, 256
    mov dx, 0x1f0
    rep insw
    mov dx, 0x1f7
    dec ebp
    jnz .sector
    dec ebx
    jnz .command
    jmp done

start_mmio:
    mov esi, MMIO_REG
.loop:
    mov eax, [rsi]
    dec ebx
    jnz .loop
    jmp done

start_pm_timer:
    mov edx, PM_TIMER
.loop:
    in eax, dx
    dec ebx
    jnz .loop
    jmp done

start_hpet:
    mov esi, HPET
    mov dword [rsi + 0x10], 1       # it counts
.loop:
    mov eax, [rsi + 0xf0]
    dec ebx
    jnz .loop
    jmp done

start_pit:                          # both bytes of a count, as Linux does to learn how fast its TSC is
    mov al, 1
    out 0x61, al                    # the gate of counter 2
    mov al, 0xb0                    # low and high byte, mode 0
    out 0x43, al
    mov al, 0xff
    out 0x42, al
    out 0x42, al
.loop:
    in al, 0x42
    in al, 0x42
    dec ebx
    jnz .loop
    jmp done

start_timer:                        # sleep until the next tick
    call start_ticks
.wait:
    sti
    hlt
    cli
    test ebx, ebx
    jnz .wait
    jmp done

start_busy_timer:                   # compute until interrupted
    call start_ticks
    sti
.wait:
    test ebx, ebx
    jnz .wait
    cli
    jmp done

start_preempt:                      # two threads share N pieces of work, and each tick goes on with the other
    mov [work_left], rbx
    mov edi, 0x20
    mov rax, preempt_tick
    mov bl, 0x8e
    call set_gate
    call start_ticks
    mov al, PREEMPT_DIVISOR & 0xff
    out 0x40, al
    mov al, PREEMPT_DIVISOR >> 8
    out 0x40, al
    mov rsp, second_stack           # what an interrupt of the second thread would have left
    push 0x10
    mov rax, second_stack
    push rax
    push 0x202
    push 8
    mov rax, preempt_thread
    push rax
    push rax
    push rcx
    mov [other_stack], rsp
    mov rsp, stack_top
    sti
preempt_thread:
    mov ecx, SLICE_WORK
.loop:
    imul rax, rax, 0x5851f42d
    add rax, rcx
    dec ecx
    jnz .loop
    dec qword ptr [work_left]
    jg preempt_thread
    cli
    xor ebx, ebx
    jmp done
preempt_tick:
    push rax
    push rcx
    mov al, 0x20
    out 0x20, al
    xchg rsp, [other_stack]
    pop rcx
    pop rax
    iretq

start_ticks:
    mov al, 0x11                    # both 8259: edges, cascade, ICW4# vectors 0x20 and 0x28# only IRQ 0 open
    out 0x20, al
    out 0xa0, al
    mov al, 0x20
    out 0x21, al
    mov al, 0x28
    out 0xa1, al
    mov al, 4
    out 0x21, al
    mov al, 2
    out 0xa1, al
    mov al, 1
    out 0x21, al
    out 0xa1, al
    mov al, 0xfe
    out 0x21, al
    mov al, 0xff
    out 0xa1, al
    mov al, 0x34                    # 8254 counter 0: both bytes, mode 2, binary
    out 0x43, al
    mov al, PIT_DIVISOR & 0xff
    out 0x40, al
    mov al, PIT_DIVISOR >> 8
    out 0x40, al
    ret

start_cpuid:
    mov r8d, ebx
.loop:
    mov eax, 0x40000000
    cpuid
    dec r8d
    jnz .loop
    xor ebx, ebx
    jmp done

start_rdmsr:
    mov ecx, 0xc0000080             # EFER
.loop:
    rdmsr
    dec ebx
    jnz .loop
    jmp done

start_hypercall:
    mov eax, 1                      # the hypercall's number# its result comes back here
    vmmcall
    dec ebx
    jnz start_hypercall
    jmp done

start_idle:
    cli
    hlt
    jmp start_idle

# ---- events ----
page_fault:
    add qword [rsp + 8], 3          # over the load
    add rsp, 8
    iretq
int80:
    iretq
spurious:
    iretq
tick:
    push rax
    mov al, 0x20
    out 0x20, al
    pop rax
    test ebx, ebx
    jz .enough
    dec ebx
.enough:
    iretq
syscall_entry:
    .byte 0x48, 0x0f, 0x07             # sysret to 64-bit code

finish:                             # int 0x81 from ring 3
    test ebx, ebx
    jnz wrong
done:
    mov al, 0x10
    jmp leave_guest
wrong:
    mov al, 0x20
leave_guest:
    mov dx, EXIT_PORT
    out dx, al
    cli
    hlt
    jmp leave_guest

set_gate:                           # vector EDI, handler RAX, type BL (kept)
    shl edi, 4
    add edi, idt
    mov [rdi], ax
    mov word [rdi + 2], 8
    mov byte [rdi + 4], 0
    mov [rdi + 5], bl
    shr rax, 16
    mov [rdi + 6], ax
    shr rax, 16
    mov [rdi + 8], eax
    mov dword [rdi + 12], 0
    ret

    .align 16
tests:
    .qword wrong, start_syscall, start_page_fault, start_int80, start_tlb, start_stores, start_port, start_mmio
    .qword start_timer, start_integer, start_sieve, start_calls, start_cpuid, start_rdmsr, start_hypercall, start_idle
    .qword start_busy_timer, start_preempt, start_redraw, start_ide, start_x87, start_sse
    .qword start_pm_timer, start_hpet, start_pit
mode_13h:                           # index port, number of words, words of value and index
    .word 0x3c4, 5
    .word 0x0300, 0x0101, 0x0f02, 0x0003, 0x0e04
    .word 0x3d4, 26
    .word 0x0e11, 0x5f00, 0x4f01, 0x5002, 0x8203, 0x5404, 0x8005, 0xbf06, 0x1f07, 0x0008, 0x4109, 0x000a
    .word 0x000b, 0x000c, 0x000d, 0x000e, 0x000f, 0x9c10, 0x8e11, 0x8f12, 0x2813, 0x4014, 0x9615, 0xb916
    .word 0xa317, 0xff18
    .word 0x3ce, 9
    .word 0x0000, 0x0001, 0x0002, 0x0003, 0x0004, 0x4005, 0x0506, 0x0f07, 0xff08
    .word 0
    .align 8
gdt:
    .qword 0, 0x00af9a000000ffff, 0x00cf92000000ffff, 0x00cff2000000ffff, 0x00affa000000ffff
gdt_tss:
    .word 0x67, 0, 0x8900, 0, 0, 0, 0, 0
gdtr:
    .word 0x37
    .dword gdt, 0
idtr:
    .word 0xfff
    .qword idt
test_id:
    .dword 0
count:
    .dword 0
work_left:
    .qword 0
other_stack:
    .qword 0
    .align 4
image_end:

.equ pml4, 0x110000
.equ pdpt, 0x111000
.equ pd_low, 0x112000
.equ pd_high, 0x113000
.equ idt, 0x114000
.equ tss, 0x115000
.equ stack_top, 0x118000
.equ user_stack, 0x119000
.equ second_stack, 0x11a000
.equ bss_end, 0x11a000
