# smp: all processors, found in the ACPI tables and started by INIT and start-up: shared counters, IPIs, a TLB shootdown.
#
#   qemu-system-x86_64 -kernel smp.bin -serial stdio -smp 4
#
# The other processors ("APs") sleep in HLT, and everything that they do they do in the handler of an interrupt that the
# first one sends to all of them.

.include "long.inc"
.include "text.inc"
.include "apic.inc"

.equ WORK, 0x28                 # vectors: add to the shared counter
.equ LOOK, 0x29                 # read the page that is mapped elsewhere now and then
.equ FLUSH, 0x2a                # forget its translation
.equ PING, 0x2b                 # answer with PONG, to the first processor
.equ PONG, 0x2c

.equ TRAMPOLINE, 0x8000         # where the APs begin, in real mode: vector 8 of the start-up message
.equ MOST, 8
.equ STACK, 4096
.equ ROUNDS, 100000
.equ WINDOW, 0x80000000         # the page at 2 GiB, which shows FIRST or SECOND
.equ FIRST, 0x400000
.equ SECOND, 0x600000

main:
    call map_apics
    call enable_apic
    mov qword ptr [handlers + WORK*8], on_work
    mov qword ptr [handlers + LOOK*8], on_look
    mov qword ptr [handlers + FLUSH*8], on_flush
    mov qword ptr [handlers + PING*8], on_ping
    mov qword ptr [handlers + PONG*8], on_pong
    mov qword ptr [handlers + SPURIOUS*8], on_spurious
    mov qword ptr [FIRST], 1
    mov qword ptr [SECOND], 2
    mov qword ptr [pdpt + 2*8], window_directory + 3
    mov qword ptr [window_directory], FIRST | 0x83
    mov rax, cr3
    mov cr3, rax
    mov edx, LAPIC_ID
    mov eax, [rdx]
    shr eax, 24
    mov [bootstrap], eax

    call find_processors
    say "processors in the MADT: "
    mov eax, [others]
    inc eax
    call print_decimal
    say "\n"
    mov rsi, trampoline
    mov edi, TRAMPOLINE
    mov ecx, trampoline_end - trampoline
    rep movsb
    xor ebx, ebx
.start:
    cmp ebx, [others]
    jae .started
    mov ecx, [ids + rbx*4]
    mov eax, MODE_INIT
    call send_ipi
    mov ecx, 10000              # 10 ms: a write to this port takes about a microsecond
.delay:
    out 0x80, al
    loop .delay
    mov ecx, [ids + rbx*4]
    mov eax, MODE_STARTUP | TRAMPOLINE >> 12
    call send_ipi
    inc ebx
    call wait_for_all           # one at a time: each finds its stack by the order of coming
    jmp .start
.started:
    say "all have come\n"

    mov eax, WORK
    call tell_others
    mov ecx, ROUNDS             # our own share
.add:
    lock inc qword ptr [shared]
    loop .add
    mov ebx, [others]
    call wait_for_all
    mov eax, [others]
    inc eax
    imul eax, eax, ROUNDS
    cmp [shared], rax
    jne .lost
    say "shared counter: no update lost\n"

    mov eax, LOOK               # everybody has the translation now
    call tell_others
    call wait_for_all
    mov rax, [WINDOW]
    cmp rax, 1
    jne .stale
    mov qword ptr [window_directory], SECOND | 0x83
    mov eax, WINDOW
    invlpg [rax]
    mov eax, FLUSH
    call tell_others
    call wait_for_all
    mov dword ptr [expected], 2
    mov eax, LOOK
    call tell_others
    call wait_for_all
    cmp dword ptr [wrong], 0
    jne .stale
    say "TLB shootdown: everybody sees the new page\n"

    xor ebx, ebx                # each AP in turn wakes us
.ping:
    cmp ebx, [others]
    jae .pinged
    mov ecx, [ids + rbx*4]
    mov eax, PING
    call send_ipi
    inc ebx
.sleep:
    cmp [pongs], ebx
    jae .ping
    sti
    hlt
    cli
    jmp .sleep
.pinged:
    say "IPIs there and back: "
    mov eax, [pongs]
    call print_decimal
    say "\nsmp: good\n"
    ret
.lost:
    say "shared counter: updates were lost\n"
    mov al, 1
    jmp debug_exit
.stale:
    say "somebody saw the old page\n"
    mov al, 2
    jmp debug_exit

# EAX = a vector: send it to all others, who then count in [done]. EBX = how many there are.
tell_others:
    mov dword ptr [done], 0
    or eax, TO_OTHERS
    xor ecx, ecx
    mov ebx, [others]
    call send_ipi
    ret

wait_for_all:                   # until [done] is EBX
    mov rcx, 1000000000
.wait:
    cmp [done], ebx
    je .come
    pause
    dec rcx
    jnz .wait
    say "a processor does not answer\n"
    mov al, 3
    jmp debug_exit
.come:
    ret

# Fill [ids] with the APIC ids of the other processors: RSDP, RSDT, MADT (ACPI 6.5, 5.2.5, 5.2.7, 5.2.12).
find_processors:
    mov esi, 0xe0000
    mov rax, 0x2052545020445352 # "RSD PTR "
.search:
    cmp [rsi], rax
    je .rsdp
    add esi, 16
    cmp esi, 0x100000
    jb .search
    say "there are no ACPI tables\n"
    mov al, 4
    jmp debug_exit
.rsdp:
    mov esi, [rsi + 16]         # the RSDT: a header of 36 bytes, then addresses of tables
    mov ecx, [rsi + 4]
    sub ecx, 36
    shr ecx, 2
.table:
    mov edi, [rsi + 36]
    cmp dword ptr [rdi], 0x43495041     # "APIC"
    je .madt
    add esi, 4
    loop .table
    say "there is no MADT\n"
    mov al, 5
    jmp debug_exit
.madt:
    mov edx, [rdi + 4]
    add edx, edi                # its end
    add edi, 44
.entry:
    cmp edi, edx
    jae .end
    cmp byte ptr [rdi], 0       # a local APIC
    jne .next
    test byte ptr [rdi + 4], 1  # enabled
    jz .next
    movzx eax, byte ptr [rdi + 3]
    cmp eax, [bootstrap]
    je .next
    mov ecx, [others]
    cmp ecx, MOST - 1
    jae .end
    mov [ids + rcx*4], eax
    inc dword ptr [others]
.next:
    movzx eax, byte ptr [rdi + 1]
    add edi, eax
    jmp .entry
.end:
    ret

# --- handlers: RDI = frame, which they return in RAX --------------------------------------------------------------------

on_work:
    mov ecx, ROUNDS
.add:
    lock inc qword ptr [shared]
    loop .add
    jmp served
on_look:
    mov eax, WINDOW
    mov rax, [rax]
    cmp eax, [expected]
    je served
    lock inc dword ptr [wrong]
    jmp served
on_flush:
    mov eax, WINDOW
    invlpg [rax]
    jmp served
on_ping:
    mov eax, PONG
    mov ecx, [bootstrap]
    call send_ipi
    jmp served
on_pong:
    inc dword ptr [pongs]
    call end_of_interrupt
    mov rax, rdi
    ret
served:
    call end_of_interrupt
    lock inc dword ptr [done]
on_spurious:
    mov rax, rdi
    ret

# --- the other processors -----------------------------------------------------------------------------------------------

.include "ap.inc"

.code64
ap64:
    mov ax, KERNEL_DATA
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov eax, [come]             # nobody else comes now
    inc eax
    mov [come], eax
    imul eax, eax, STACK
    lea rsp, [rax + stacks]
    lidt [idt_pointer]
    call enable_apic
    lock inc dword ptr [done]
.idle:
    sti
    hlt
    jmp .idle

    .align 8
shared:
    .qword 0
bootstrap:                      # APIC id of the first processor
    .dword 0
others:
    .dword 0
come:
    .dword 0
done:
    .dword 0
expected:
    .dword 1
wrong:
    .dword 0
pongs:
    .dword 0

.include "long_bss.inc"
    .align 4096
apic_directory:
    .skip 4096
window_directory:
    .skip 4096
ids:
    .skip MOST * 4
    .align 16
stacks:
    .skip MOST * STACK
memory_end:
