# apic: local APIC and I/O APIC at work: interrupts to oneself, the task priority, the timer, the PIT through pin 2, an NMI.
#
#   qemu-system-x86_64 -kernel apic.bin -serial stdio

.include "long.inc"
.include "text.inc"
.include "apic.inc"

.equ COUNTED, 0x28              # vectors; one handler counts what comes on each of the first three
.equ TICK, 0x29
.equ PIT, 0x2a
.equ NMI, 2
.equ TICKS, 10

.macro expect counter, value, text
    cmp dword ptr [\counter], \value
    jne failed
    say \text
.endm

main:
    mov eax, 1
    cpuid
    test edx, 1 << 9
    jz .none
    call map_apics
    mov qword ptr [handlers + COUNTED*8], on_counted
    mov qword ptr [handlers + TICK*8], on_tick
    mov qword ptr [handlers + PIT*8], on_pit
    mov qword ptr [handlers + NMI*8], on_nmi
    mov qword ptr [handlers + SPURIOUS*8], on_spurious
    mov ecx, 0x1b               # the MSR APIC_BASE
    rdmsr
    say "APIC base "
    call print_hex
    mov edx, LAPIC_ID
    mov eax, [rdx]
    shr eax, 24
    say ", local APIC "
    call print_decimal
    mov edx, LAPIC_VERSION
    mov eax, [rdx]
    and eax, 0xff
    say ", version "
    call print_hex
    say "\n"
    call enable_apic

    mov ebx, 5                  # five interrupts to ourselves
.self:
    mov eax, TO_SELF | COUNTED
    xor ecx, ecx
    call send_ipi
    sti
    nop
    nop
    cli
    dec ebx
    jnz .self
    expect counted, 5, "interrupts to oneself: 5\n"

    mov eax, 2                  # class 2 holds our vectors back
    mov cr8, rax
    mov edx, LAPIC_TPR
    cmp dword ptr [rdx], 0x20
    jne failed
    mov eax, TO_SELF | COUNTED
    xor ecx, ecx
    call send_ipi
    sti
    nop
    nop
    cli
    expect counted, 5, "task priority: held back, "
    xor eax, eax
    mov cr8, rax
    sti
    nop
    nop
    cli
    expect counted, 6, "then delivered\n"

    mov edx, LAPIC_DIVIDE
    mov dword ptr [rdx], 0x3    # by 16
    mov edx, LAPIC_LVT_TIMER
    mov dword ptr [rdx], TICK
    mov edx, LAPIC_INITIAL
    mov dword ptr [rdx], 100000
    sti
    hlt
    cli
    mov edx, LAPIC_CURRENT
    cmp dword ptr [rdx], 0
    jne failed
    expect ticks, 1, "timer, one shot: good\n"
    mov edx, LAPIC_LVT_TIMER
    mov dword ptr [rdx], PERIODIC | TICK
    mov edx, LAPIC_INITIAL
    mov dword ptr [rdx], 50000
.tick:
    sti
    hlt
    cli
    cmp dword ptr [ticks], 1 + TICKS
    jb .tick
    mov dword ptr [rdx], 0
    say "timer, periodic: good\n"

    mov ebx, IOAPIC             # pin 2: the PIT; edge-triggered, to APIC 0
    mov dword ptr [rbx], 0x10 + 2*2 + 1
    mov dword ptr [rbx + 0x10], 0
    mov dword ptr [rbx], 0x10 + 2*2
    mov dword ptr [rbx + 0x10], PIT
    mov ax, 1193
    call start_timer            # this unmasks the line at the PIC, too: take that back
    mov al, 0xff
    out 0x21, al
.pit:
    sti
    hlt
    cli
    cmp dword ptr [pits], TICKS
    jb .pit
    mov dword ptr [rbx], 0x10 + 2*2
    mov dword ptr [rbx + 0x10], MASKED | PIT
    say "PIT through the I/O APIC: good\n"

    mov eax, MODE_NMI           # physical destination: ourselves
    mov edx, LAPIC_ID
    mov ecx, [rdx]
    shr ecx, 24
    call send_ipi
    mov ecx, 1000
.wait:
    pause
    loop .wait
    expect nmis, 1, "NMI: good\n"
    say "apic: good\n"
    ret
.none:
    say "CPUID shows no APIC\n"
failed:
    say "FAILED: "
    mov eax, [counted]
    call print_decimal
    say " counted, "
    mov eax, [ticks]
    call print_decimal
    say " ticks\n"
    mov al, 1
    jmp debug_exit

on_counted:                     # handlers: RDI = frame, which they return in RAX
    inc dword ptr [counted]
    jmp served
on_tick:
    inc dword ptr [ticks]
    jmp served
on_pit:
    inc dword ptr [pits]
served:
    call end_of_interrupt
    mov rax, rdi
    ret
on_nmi:
    inc dword ptr [nmis]
on_spurious:                    # neither has an end of interrupt
    mov rax, rdi
    ret

    .align 4
counted:
    .dword 0
ticks:
    .dword 0
pits:
    .dword 0
nmis:
    .dword 0

.include "long_bss.inc"
    .align 4096
apic_directory:
    .skip 4096
memory_end:
