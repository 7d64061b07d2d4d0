"""A guest whose vCPUs do random things with their local APICs, and write down what comes of it.

Each vCPU draws its operations from a generator of its own: reads of registers, task priorities, interrupts to each
other by every kind of destination, sleep, pauses, work, its timer. What it reads and each interrupt that it takes, with
the time, goes into a sum; memory and time at the end say whether two runs were the same.

The same programs run in x2APIC mode, with RDMSR and WRMSR in place of loads and stores (`tests.core.apic_by_msrs`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hypervisor as hv
from hypervisor.arch import apic_registers as r
from hypervisor.assembler import assemble
from tests.core.apic_by_msrs import by_msrs

CODE, TRAMPOLINE, IDT, STUBS, DATA, STACKS = 0x100000, 0x8000, 0x180000, 0x181000, 0x190000, 0x1A0000
"""Each vCPU has 4 KiB at `DATA`: its generator, its sum, the operations left, interrupts taken, mails; and a stack."""
SEED, SUM, LEFT, TAKEN, SENT, REFUSED = 0, 4, 8, 12, 16, 20
MAILS, GOT = 0x100, 0x200
"""By sender: 1 while an interrupt of it is on its way here; how many of them have come."""
READABLE = [
    offset
    for register in r.REGISTERS
    if (offset := register.offset) not in (r.EOI, r.APR, r.RRD, r.ICR_LOW) and "r" in register.access
]

_START = f"""
.code32
    cli
    lgdt [gdtr]
    jmp 8:go
    .align 8
gdt:
    .quad 0, 0xcf9a000000ffff, 0xcf92000000ffff
gdtr:
    .word 23
    .dword gdt
idtr:
    .word 0x7ff
    .dword {IDT:#x}
go:
    mov eax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esi, trampoline
    mov edi, {TRAMPOLINE:#x}
    mov ecx, trampoline_end - trampoline
    rep movsb
    mov edi, 0xfee00000
    mov dword ptr [edi + 0x310], 0
    mov dword ptr [edi + 0x300], 0xc4500
    mov dword ptr [edi + 0x300], 0xc4600 | {TRAMPOLINE >> 12}
    jmp each
trampoline:
.code16
    cli
    xor ax, ax
    mov ds, ax
    o32 lgdt [{TRAMPOLINE:#x} + own_gdtr - trampoline]
    mov eax, cr0
    and eax, 0x9fffffff
    or eax, 1
    mov cr0, eax
    jmp dword 8:other
    .align 4
own_gdtr:
    .word 23
    .dword gdt
trampoline_end:
.code32
other:
    mov eax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
each:
    mov edi, 0xfee00000
    mov ebx, [edi + 0x20]
    shr ebx, 24
    mov ebp, ebx
    shl ebp, 12
    lea esp, [ebp + {STACKS + 0x1000:#x}]
    add ebp, {DATA:#x}
    lidt [idtr]
    mov dword ptr [edi + 0xf0], 0x1ff
    mov cl, bl
    mov eax, 0x1000000
    shl eax, cl
    mov [edi + 0xd0], eax
    mov dword ptr [edi + 0x3e0], 0xb
    mov dword ptr [edi + 0x320], 0x20020
    mov dword ptr [edi + 0x380], 150000
    lock inc dword ptr [{DATA + 0x800:#x}]
all_here:
    pause
    mov eax, [{DATA + 0x800:#x}]
    cmp eax, [{DATA + 0x804:#x}]
    jne all_here
"""

_END = f"""
    cli
    mov dword ptr [edi + 0x320], 0x10000
    lock inc dword ptr [{DATA + 0x808:#x}]
    test ebx, ebx
    jnz asleep
last:
    pause
    mov eax, [{DATA + 0x808:#x}]
    cmp eax, [{DATA + 0x804:#x}]
    jne last
    mov al, 5
    out 0xf4, al
asleep:
    cli
    hlt
    jmp asleep
random:                             # EAX
    imul eax, [ebp], 1664525
    add eax, 1013904223
    mov [ebp], eax
    shr eax, 8
    ret
add_up:                             # EAX to the sum
    rol dword ptr [ebp + {SUM}], 5
    xor [ebp + {SUM}], eax
    ret
"""

_OPERATIONS = f"""
next:
    cmp dword ptr [ebp + {LEFT}], 0
    je end
    dec dword ptr [ebp + {LEFT}]
    call random
    mov edx, eax
    and edx, 15
    jmp [edx * 4 + operations]
operations:
    .dword read, read, priority, logical, send, send, send, sleep, pauses, work, work, time, timer, mask, lowest, send
read:
    call random
    xor edx, edx
    mov ecx, {len(READABLE)}
    div ecx
    mov edx, [edx * 4 + readable]
    mov eax, [edi + edx]
    call add_up
    jmp next
priority:
    call random
    and eax, 0x7f
    mov [edi + 0x80], eax
    sti
    jmp next
logical:                            # another logical id, flat or in a cluster
    call random
    shl eax, 24
    mov [edi + 0xd0], eax
    call random
    and eax, 0x80000000
    jz of_cluster
    mov eax, 0xf0000000
of_cluster:
    mov [edi + 0xe0], eax
    mov dword ptr [edi + 0xb0], eax # there is nothing to end
    jmp next
send:
    call random
    mov ecx, eax
    shl ecx, 24
    test eax, 0x100
    jz short_destination
    and ecx, 0x03000000
short_destination:
    mov [edi + 0x310], ecx
    call random
    mov ecx, eax
    and eax, 0x8c003f               # a shorthand or none, physical or logical
    and ecx, 0x800
    or eax, ecx
    add eax, 0x30
    mov [edi + 0x300], eax
    jmp next
lowest:
    call random
    test eax, 7
    jnz send
    mov dword ptr [edi + 0x310], 0xff000000
    mov dword ptr [edi + 0x300], 0x941
    jmp next
sleep:
    mov dword ptr [edi + 0x80], 0
    sti
    hlt
    jmp next
pauses:
    call random
    and eax, 63
paused:
    pause
    dec eax
    jns paused
    jmp next
work:
    call random
    and eax, 0x3ff
working:
    dec eax
    jns working
    jmp next
time:
    rdtsc
    call add_up
    jmp next
timer:                              # rarely: that is Python's
    call random
    test eax, 7
    jnz time
    shr eax, 3
    and eax, 0x3ffff
    add eax, 20000
    mov [edi + 0x380], eax
    jmp next
mask:
    cli
    mov eax, [edi + 0x20]
    mov eax, [edi + 0x390]
    call add_up
    sti
    jmp next
handler:                            # the vector is on the stack
    pushad
    inc dword ptr [ebp + {TAKEN}]
    mov eax, [esp + 32]
    call add_up
    rdtsc
    call add_up
    mov eax, [edi + 0x390]
    call add_up
    mov eax, [edi + 0xa0]           # the priority of what is in service
    call add_up
    call random
    test al, 3
    jnz not_nested
    sti
    nop
    nop
    cli
not_nested:
    mov dword ptr [edi + 0xb0], 0
    popad
    add esp, 4
    iretd
readable:
    .dword {", ".join(map(str, READABLE))}
end:
"""

_MAILS = f"""
next:
    cmp dword ptr [ebp + {LEFT}], 0
    je last_mails
    call random
    mov edx, eax
    shr edx, 4
    and edx, 7                      # to whom
    cmp edx, [{DATA + 0x804:#x}]
    jae next
    mov ecx, edx
    shl ecx, 12
    lea ecx, [ecx + ebx * 4 + {DATA + MAILS:#x}]
    cmp dword ptr [ecx], 0
    jne on_its_way
    dec dword ptr [ebp + {LEFT}]
    inc dword ptr [ebp + {SENT}]
    mov dword ptr [ecx], 1
    shl edx, 24
    cli                             # a handler must not come between the two halves
    mov [edi + 0x310], edx
    lea eax, [ebx + 0x40]
    mov [edi + 0x300], eax
    sti
    jmp next
on_its_way:
    inc dword ptr [ebp + {REFUSED}]
    test eax, 0x700
    jnz next
    sti                             # its timer wakes it, if nothing else does
    hlt
    jmp next
last_mails:                         # until each of them has come
    xor ecx, ecx
    xor edx, edx
look:
    mov eax, ecx
    shl eax, 12
    or edx, [eax + ebx * 4 + {DATA + MAILS:#x}]
    inc ecx
    cmp ecx, [{DATA + 0x804:#x}]
    jb look
    pause
    test edx, edx
    jnz last_mails
    lock inc dword ptr [{DATA + 0x80C:#x}]
all_come:
    pause
    mov eax, [{DATA + 0x80C:#x}]
    cmp eax, [{DATA + 0x804:#x}]
    jne all_come
    jmp end
handler:
    pushad
    mov ecx, [esp + 32]
    sub ecx, 0x40
    jb done                         # the timer
    inc dword ptr [ebp + ecx * 4 + {GOT}]
    inc dword ptr [ebp + {TAKEN}]
    mov dword ptr [ebp + ecx * 4 + {MAILS}], 0
done:
    mov dword ptr [edi + 0xb0], 0
    popad
    add esp, 4
    iretd
end:
"""

PROGRAMS = {"random": _OPERATIONS, "mails": _MAILS}


@contextmanager
def guest(program: str, cpus: int, seed: int, operations: int, x2apic: bool = False, **options: Any) -> Iterator[hv.VM]:
    """A VM that is about to run this program (one of `PROGRAMS`, or a source like theirs), so many operations on each
    vCPU.
    """
    source = _START + PROGRAMS.get(program, program) + _END
    made = assemble(by_msrs(source, READABLE) if x2apic else source, origin=CODE, mode=32)
    vm = hv.boot(made.code, format="flat", at=CODE, entry=CODE, mode=32, memory="4M", cpus=cpus, **options)
    try:
        handler = made.symbols["handler"]
        for vector in range(256):
            at = STUBS + 10 * vector
            jump = (handler - at - 10) & 0xFFFFFFFF
            vm.memory.write(at, b"\x68" + vector.to_bytes(4, "little") + b"\xe9" + jump.to_bytes(4, "little"))
            gate = at & 0xFFFF | 8 << 16 | 0x8E00 << 32 | at >> 16 << 48
            vm.memory.write(IDT + 8 * vector, gate.to_bytes(8, "little"))
        for number in range(cpus):
            for field, value in ((SEED, seed * 8 + number), (LEFT, operations)):
                vm.memory.write(DATA + 4096 * number + field, value.to_bytes(4, "little"))
        vm.memory.write(DATA + 0x804, cpus.to_bytes(4, "little"))
        yield vm
    finally:
        vm.close()


def word(vm: hv.VM, number: int, field: int) -> int:
    """A word of a vCPU's data."""
    return int.from_bytes(vm.memory.read(DATA + 4096 * number + field, 4), "little")


def in_python(vm: hv.VM) -> None:
    """Let the model and the turns in Python serve the guest, and the engine nothing."""
    vm.turns.by_engine = False
    vm.serve_apics_at(-1)
    for vcpu in vm.vcpus:
        vcpu.words.own_apic = False
        vcpu.words.apic_at = 0


def watched(vm: hv.VM) -> None:
    """Let observers see each access, each interrupt and each HLT: none can be served without Python."""
    seen: Callable[[Any, Any], None] = lambda vcpu, exit: None  # noqa: E731
    for kind in ("mmio_read", "mmio_write"):
        getattr(vm.traps, kind)(range(0xFEE00000, 0xFEE01000), seen, mode="observe")
    vm.traps.rdmsr(r.X2APIC_MSRS, seen, mode="observe")
    vm.traps.wrmsr(r.X2APIC_MSRS, seen, mode="observe")
    vm.traps.hlt(seen, mode="observe")
    vm.traps.interrupt(seen, mode="observe")


def outcome(vm: hv.VM, result: hv.RunResult) -> dict[str, Any]:
    """All that two equal runs have in common."""
    return {
        "reason": result.reason,
        "message": result.message,
        "time": vm.clock.now_ns,
        "exits": result.exits,
        "memory": hashlib.sha256(vm.memory.read(0, vm.memory.size)).hexdigest(),
        "apics": vm.devices["lapic"].state(),
        "vcpus": [
            (v.position, v.event_at, v.intr.level, v.halted, v.rip, v.rflags, [v.get(n) for n in ("rax", "rcx", "rdx")])
            for v in vm.vcpus
        ],
        "turns": (vm.turns.time, vm.turns.floor, vm.turns.end, vm.turns.idle_turns),
    }


def run(
    cpus: int, seed: int, operations: int, how: Callable[[hv.VM], None] | None = None, x2apic: bool = False
) -> dict[str, Any]:
    """The outcome of random operations, served by the engine where it can or as ``how`` says."""
    with guest("random", cpus, seed, operations, x2apic) as vm:
        vm.devices["lapic"].apics[0].page.tmr = (1 << 256) - 1  # as if each had been level-triggered when it came last
        if how is not None:
            how(vm)
        result = vm.run(timeout=300, virtual_timeout=60)
        assert result.reason is hv.Reason.DEBUG_EXIT, (result.reason, result.message)
        assert all(word(vm, number, TAKEN) > operations // 50 for number in range(cpus))
        return outcome(vm, result)
