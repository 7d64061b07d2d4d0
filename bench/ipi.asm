# ipi: what two processors do to each other; "TEST N" at the end of the command line says what, and how often.
#
#    1 N interprocessor interrupts there and back, between two processors that wait for them in HLT
#    2 a lock that knows its owner by the local APIC's ID, taken N times by each
#
#   qemu-system-x86_64 -kernel ipi.bin -append "1 N" -smp 2 -device isa-debug-exit,iobase=0xf4,iosize=1
#
# Ends with debug-exit status 33 (65 if what the lock guards was not counted exactly). With N = 0 the second processor
# is started, and nothing else happens.

.include "long.inc"
.include "text.inc"
.include "apic.inc"

.equ PING, 0x28
.equ PONG, 0x29
.equ TRAMPOLINE, 0x8000

main:
    call map_apics
    call enable_apic
    mov qword ptr [handlers + PING*8], on_ping
    mov qword ptr [handlers + PONG*8], on_pong
    mov qword ptr [handlers + SPURIOUS*8], on_spurious
    call read_command_line
    mov rsi, trampoline
    mov edi, TRAMPOLINE
    mov ecx, trampoline_end - trampoline
    rep movsb
    mov eax, MODE_INIT
    mov ecx, 1
    call send_ipi
    mov ecx, 10000              # 10 ms: a write to this port takes about a microsecond
.delay:
    out 0x80, al
    loop .delay
    mov eax, MODE_STARTUP | TRAMPOLINE >> 12
    mov ecx, 1
    call send_ipi
.wait:
    pause
    cmp dword ptr [come], 0
    je .wait
    cmp dword ptr [test_id], 2
    je .locks
.round:
    mov eax, [rounds]
    cmp [pongs], eax
    jae .done
    mov eax, PING
    mov ecx, 1
    call send_ipi
    sti
    hlt
    cli
    jmp .round
.locks:
    call take_locks
.both:
    pause
    cmp dword ptr [ready], 2
    jne .both
    mov eax, [rounds]
    add eax, eax
    cmp eax, [guarded]
    je .done
    mov al, 0x20
    jmp debug_exit
.done:
    mov al, 0x10
    jmp debug_exit

take_locks:                     # take the lock [rounds] times, count, and give it back
    mov esi, [rounds]
    mov edi, LAPIC_ID
    test esi, esi
    jz .taken
.lock:
    mov edx, [rdi]
    shr edx, 24
    inc edx                     # 0 is nobody
.try:
    xor eax, eax
    lock cmpxchg [owner], edx
    je .mine
    pause
    jmp .try
.mine:
    inc dword ptr [guarded]
    mov dword ptr [owner], 0
    dec esi
    jnz .lock
.taken:
    lock inc dword ptr [ready]
    ret

read_command_line:              # [test_id] and [rounds] = its last two numbers
    mov ebx, [multiboot_info]
    mov esi, [rbx + 16]
    xor ecx, ecx
.restart:
    mov edi, ecx
    xor ecx, ecx
.next:
    lodsb
    test al, al
    jz .end
    cmp al, ' '
    je .restart
    movzx eax, al
    sub eax, '0'
    imul ecx, ecx, 10
    add ecx, eax
    jmp .next
.end:
    mov [test_id], edi
    mov [rounds], ecx
    ret

on_ping:                        # handlers: RDI = frame, which they return in RAX
    mov eax, PONG
    xor ecx, ecx
    call send_ipi
    call end_of_interrupt
    mov rax, rdi
    ret
on_pong:
    inc dword ptr [pongs]
    call end_of_interrupt
on_spurious:
    mov rax, rdi
    ret

.include "ap.inc"

.code64
ap64:
    mov ax, KERNEL_DATA
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, ap_stack_top
    lidt [idt_pointer]
    call enable_apic
    mov dword ptr [come], 1
    cmp dword ptr [test_id], 2
    jne .idle
    call take_locks
.idle:
    sti
    hlt
    jmp .idle

    .align 4
come:
    .dword 0
pongs:
    .dword 0
rounds:
    .dword 0
test_id:
    .dword 0

.include "long_bss.inc"
    .align 4096
apic_directory:
    .skip 4096
    .skip 4096
ap_stack_top:
owner:                          # not beside code, whose page stores are slow
    .skip 4
guarded:
    .skip 4
ready:
    .skip 4
memory_end:
