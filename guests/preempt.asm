# preempt: three threads that never yield, preempted by the PIT a thousand times a second, and no update lost.
#
#   qemu-system-x86_64 -kernel preempt.bin -serial stdio
#
# Each thread adds to a counter in memory that all share, with one INC each, and counts the same in a register of its
# own. One CPU takes interrupts between instructions only, never inside one, so no update may be lost or doubled: the
# shared counter must be the sum of the threads' own.

.include "long.inc"
.include "text.inc"

.equ THREADS, 3
.equ TICKS, 60
.equ STACK, 4096
.equ FRAME_SIZE, 22 * 8

main:
    mov qword ptr [handlers + IRQ_BASE*8], on_timer
    xor ebx, ebx
.create:                        # a new thread is a stack with the frame of an interrupt that never was
    mov eax, ebx
    inc eax
    imul eax, eax, STACK
    lea rdi, [rax + stacks - FRAME_SIZE]
    mov [threads + rbx*8], rdi
    mov qword ptr [rdi + FRAME_RIP], thread
    mov qword ptr [rdi + FRAME_CS], KERNEL_CODE
    mov qword ptr [rdi + FRAME_FLAGS], 0x202
    lea rax, [rax + stacks]
    mov [rdi + FRAME_RSP], rax
    mov qword ptr [rdi + FRAME_SS], KERNEL_DATA
    mov [rdi + FRAME_RDI], rbx  # the thread's argument: its number
    inc ebx
    cmp ebx, THREADS
    jb .create
    mov ax, 1193                # 1,193,182 Hz / 1193 = 1000 Hz
    call start_timer
    sti
.wait:                          # this is a thread too, the last of the round
    hlt
    cmp qword ptr [finished], THREADS
    jb .wait
    cli
    call stop_timer

    xor ebx, ebx
    xor r12d, r12d
.sum:
    mov rax, [counts + rbx*8]
    add r12, rax
    say "thread "
    mov rcx, rax
    mov eax, ebx
    call print_decimal
    say ": "
    mov rax, [slices + rbx*8]
    call print_decimal
    say " slices, "
    test rcx, rcx
    jz .stuck
    say "made progress\n"
    inc ebx
    cmp ebx, THREADS
    jb .sum
    mov rax, [shared]
    sub rax, r12
    jnz .lost
    say "shared counter: no update lost, none doubled\n"
    say "preempt: good\n"
    ret
.stuck:
    say "made no progress\n"
    mov al, 1
    jmp debug_exit
.lost:
    say "shared counter is off by "
    call print_hex
    say "\n"
    mov al, 2
    jmp debug_exit

thread:                         # RDI = its number
    xor eax, eax
.loop:
    inc qword ptr [shared]
    inc rax
    cmp byte ptr [stop], 0
    je .loop
    mov [counts + rdi*8], rax
    inc qword ptr [finished]
.idle:
    hlt
    jmp .idle

# Round robin: keep the interrupted thread's frame, go on with the next one's.
on_timer:
    mov al, 0x20                # end of interrupt
    out 0x20, al
    mov rcx, [current]
    mov [threads + rcx*8], rdi
    inc rcx
    cmp rcx, THREADS + 1        # main is one of them
    jb .chosen
    xor ecx, ecx
.chosen:
    mov [current], rcx
    inc qword ptr [slices + rcx*8]
    mov rax, [threads + rcx*8]
    inc qword ptr [ticks]
    cmp qword ptr [ticks], TICKS
    jb .done
    mov byte ptr [stop], 1
.done:
    ret

    .align 8
current:
    .qword THREADS              # main runs first
ticks:
    .qword 0
shared:
    .qword 0
finished:
    .qword 0
stop:
    .byte 0

.include "long_bss.inc"
    .align 16
threads:                        # the frame of each thread that does not run
    .skip (THREADS + 1) * 8
slices:
    .skip (THREADS + 1) * 8
counts:
    .skip THREADS * 8
    .align 16
stacks:
    .skip THREADS * STACK
memory_end:
