"""Programs for `tests.core.apic_guest` that read and write the board's timers: 8254, HPET and ACPI's PM timer."""

from __future__ import annotations

from hypervisor.devices.parts import hpet_registers as h

HPET, PM_TIMER = 0xFED00000, 0x608
READABLE = [
    h.CAPABILITIES, h.CAPABILITIES + 4, h.CONFIGURATION, h.STATUS, h.COUNTER, h.COUNTER + 1, h.COUNTER + 4, 0x50,
    *(h.TIMER + n * h.TIMER_SIZE + at for n in range(h.TIMERS) for at in (0, 4, h.COMPARATOR, h.COMPARATOR + 4)),
]  # fmt: skip
READS = 32
"""Of the vCPU's data: where `TIMES` has what it read last: TSC, PM timer, HPET, TSC."""

RANDOM = f"""
    mov esi, {HPET:#x}
next:
    cmp dword ptr [ebp + 8], 0
    je end
    dec dword ptr [ebp + 8]
    call random
    mov edx, eax
    and edx, 15
    jmp [edx * 4 + operations]
operations:
    .dword pm, pm, hpet, hpet, hpet_byte, pit, pit, pit, pit_wide, work, work, time, set_pit, set_pit, set_hpet, latch
pm:
    mov dx, {PM_TIMER}
    in eax, dx
    call add_up
    mov dx, {PM_TIMER + 1}
    in ax, dx
    call add_up
    in al, dx
    jmp sum
hpet:
    call random
    xor edx, edx
    mov ecx, {len(READABLE)}
    div ecx
    mov edx, [edx * 4 + readable]
    mov eax, [esi + edx]
    jmp sum
hpet_byte:
    movzx eax, word ptr [esi + {h.COUNTER + 6}]
    add al, [esi + {h.COUNTER}]
    jmp sum
pit:
    call random
    xor edx, edx
    mov ecx, 3
    div ecx
    add edx, 0x40
    xor eax, eax
    in al, dx
    jmp sum
pit_wide:
    in eax, 0x40
    call add_up
    in ax, 0x42
    jmp sum
work:
    call random
    and eax, 0x3ff
working:
    dec eax
    jns working
    jmp next
time:
    sti
    rdtsc
sum:
    call add_up
    jmp next
set_pit:                            # a mode, a count, the gate of counter 2, or any byte
    call random
    test eax, 0x300
    jz control
    mov edx, eax
    and edx, 1
    add edx, 0x41
    shr eax, 12
    test eax, 0x800
    jz byte_out
    and al, 3
    mov edx, 0x61
    jmp byte_out
control:
    mov edx, 0x43
    or al, 0x50
byte_out:
    out dx, al
    jmp next
latch:
    call random
    and al, 0xde
    mov dx, 0x43
    out dx, al
    jmp next
set_hpet:
    call random
    test eax, 0x30
    jnz set_timer
    and eax, 1
    mov [esi + {h.CONFIGURATION}], eax
    call random
    mov [esi + {h.COUNTER}], eax
    jmp next
set_timer:
    mov edx, eax
    and edx, 0x40
    mov ecx, eax
    shr ecx, 8
    and ecx, 0x17a                  # level, periodic, 32 bits, or not; no interrupts, which nobody would end
    mov [esi + edx + {h.TIMER}], ecx
    shr eax, 8
    and eax, 0x3ffff
    mov [esi + edx + {h.TIMER + h.COMPARATOR}], eax
    jmp next
handler:
    pushad
    call random
    mov dword ptr [edi + 0xb0], 0
    mov al, 0x20
    out 0x20, al
    popad
    add esp, 4
    iretd
readable:
    .dword {", ".join(map(str, READABLE))}
end:
"""

TIMES = f"""
    mov esi, {HPET:#x}
    mov dword ptr [{HPET + h.CONFIGURATION:#x}], 1
next:
    cmp dword ptr [ebp + 8], 0
    je end
    dec dword ptr [ebp + 8]
    sti
    rdtsc                           # before, counters, behind: for the host to compare
    mov ebx, eax
    mov ecx, edx
    mov edx, {PM_TIMER}
    in eax, dx
    mov [ebp + {READS + 8}], eax
    mov eax, [esi + {h.COUNTER}]
    mov [ebp + {READS + 12}], eax
    mov [ebp + {READS}], ebx
    mov [ebp + {READS + 4}], ecx
    rdtsc
    mov [ebp + {READS + 16}], eax
    mov [ebp + {READS + 20}], edx
    mov al, 0                       # the host looks
    out 0x80, al
    call random
    and eax, 0x3ff
working:
    dec eax
    jns working
    jmp next
handler:
    pushad
    mov dword ptr [edi + 0xb0], 0
    mov al, 0x20
    out 0x20, al
    popad
    add esp, 4
    iretd
end:
    mov ebx, [edi + 0x20]
    shr ebx, 24
"""

__all__ = ["RANDOM", "READS", "TIMES"]
