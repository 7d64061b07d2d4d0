# long: a 64-bit kernel in miniature; long mode, IDT, PIC, PIT timer, ring 3, SYSCALL and SYSRET, a debug-exit status.
#
#   qemu-system-x86_64 -kernel long.bin -serial stdio -device isa-debug-exit,iobase=0xf4,iosize=1      (status 33)
#
# The way into long mode, the IDT and the console are in long.inc: read it next.

.include "long.inc"
.include "text.inc"

.equ TICKS, 10
.equ STAR, 0xc0000081
.equ LSTAR, 0xc0000082
.equ SFMASK, 0xc0000084
.equ CALL_PRINT, 1              # our system calls: number in RAX, argument in RDI
.equ CALL_ADD, 2
.equ CALL_EXIT, 3

main:
    say "long mode: on\n"
    say "breakpoint: "
    mov qword ptr [handlers + 3*8], on_breakpoint
    int3
    say "back\n"

    say "timer: "
    mov qword ptr [handlers + IRQ_BASE*8], on_timer
    mov ax, 11932               # 1,193,182 Hz / 11932 = 100 Hz
    call start_timer
    sti
.sleep:
    hlt                         # wakes up at every tick
    cmp qword ptr [ticks], TICKS
    jb .sleep
    cli
    call stop_timer
    mov rax, TICKS
    call print_decimal
    say " ticks\n"

    # SYSCALL jumps to LSTAR with CS and SS from STAR[47:32]; SYSRET returns with STAR[63:48] + 16 and + 8.
    mov ecx, STAR
    xor eax, eax
    mov edx, SYSRET_BASE << 16 | KERNEL_CODE
    wrmsr
    mov ecx, LSTAR
    mov eax, on_syscall
    xor edx, edx
    wrmsr
    mov ecx, SFMASK
    mov eax, 1 << 9             # interrupts off on entry: the stack is still the user's
    wrmsr

    say "ring 3: "
    mov [kernel_stack], rsp
    push USER_DATA              # IRETQ pops RIP, CS, RFLAGS, RSP and SS: the way down to ring 3
    mov rax, user_stack_top + USER
    push rax
    push 0x202                  # interrupts on
    push USER_CODE
    mov rax, user_main + USER
    push rax
    iretq

back_in_kernel:
    say "done\n"
    mov al, 0x10                # 0x10 * 2 + 1 = 33
    jmp debug_exit

# --- ring 3; runs at USER + its address, so it names nothing by absolute address ----------------------------------------

user_main:
    mov eax, CALL_PRINT
    lea rdi, [rel user_text]
    syscall                     # RCX and R11 are lost: they hold RIP and RFLAGS
    mov r12d, 1000              # a sum of 1 to 1000, made of a thousand system calls
    xor r13d, r13d
.sum:
    mov eax, CALL_ADD
    mov rdi, r12
    syscall
    dec r12d
    jnz .sum
    mov eax, CALL_EXIT
    syscall

user_text:
    .asciz "hello from user mode\n"

# --- the kernel's handlers ----------------------------------------------------------------------------------------------

on_breakpoint:
    say "caught, "
    mov rax, rdi
    ret

on_timer:
    inc qword ptr [ticks]
    mov al, 0x20                # end of interrupt
    out 0x20, al
    mov rax, rdi
    ret

on_syscall:
    mov [user_stack], rsp
    mov rsp, [kernel_stack]
    push rcx
    push r11
    cmp eax, CALL_PRINT
    je .print
    cmp eax, CALL_ADD
    je .add
    say "syscall: sum "
    mov rax, [total]
    call print_decimal
    say "\n"
    jmp back_in_kernel
.print:
    mov rsi, rdi
    call print
    jmp .return
.add:
    add [total], rdi
.return:
    pop r11
    pop rcx
    mov rsp, [user_stack]
    sysretq

    .align 8
ticks:
    .qword 0
total:
    .qword 0
kernel_stack:
    .qword 0
user_stack:
    .qword 0
    .align 16
    .skip 512
user_stack_top:

.include "long_bss.inc"
memory_end:
