"""What the kernels make of random cases and of a guest, as text: run in both forms by `test_plain`."""

from __future__ import annotations

import hashlib
import random
import sys

from hypervisor.arch.exits import ExitKind
from hypervisor.engine import block as b
from hypervisor.engine.state import GPR
from tests.engine import test_decode, test_events, test_paging
from tests.engine.machine import Machine, machine
from tests.engine.programs import ALIAS, CODE0, IDT, TABLES, program
from tests.oracle import build
from tests.oracle.generate import EVENT_MODES, WALK_MODES, random_event, random_walk
from tests.oracle.generate_walk import MEMORY_SIZE

GUEST = f"""
    mov ecx, 60
    again:
        mov al, cl
        out 0x80, al                    # ports, with an answer that depends on what was written
        in al, 0x80
        movzx eax, al
        add ebx, eax
        mov [{ALIAS} + patch + 1], cl   # code that changes, through an alias
        patch: mov al, 0
        movzx eax, al
        add ebx, eax
        mov edx, ecx
        shl edx, 12
        mov [0x300000 + edx], ecx       # a page that the fault handler maps
        add ebx, [0x300000 + edx]
        int 0x80
        mov esi, 0x5000
        mov edi, 0x5008
        push ecx
        mov ecx, 16
        rep movsb
        inc dword ptr [0x5000]
        mov eax, [0x380000]             # device memory
        add ebx, eax
        mov [0x380004], ebx
        push ebx
        xor eax, eax
        cpuid
        pop ebx
        rdtsc
        add edi, eax
        pop ecx
        dec ecx
        cmp ecx, 20
        jne again
    mov edx, finished
    mov ecx, esp
    mov esi, 1
    syscall
    finished: hlt
.align 16
fault:
    push eax; push edx
    mov eax, cr2
    mov edx, eax
    shr edx, 12
    and eax, 0x3f000
    or eax, 3
    mov [{TABLES + 0x1000} + edx * 4], eax
    pop edx; pop eax
    add esp, 4
    iretd
interrupt:
    add ebx, 0x100
    iretd
"""


def texts(guest: Machine) -> str:
    """Registers, time and memory."""
    registers = guest.registers
    names = [*GPR, "rip", "rflags", "cr2", "cr0"]
    values = " ".join(f"{name}={registers.get(name):x}" for name in names)
    memory = hashlib.sha256(guest.memory[: guest.size]).hexdigest()[:16]
    return f"{values} cs={registers.segment('cs')} ss={registers.segment('ss')} now={guest.word(b.NOW)} memory={memory}"


def walks(count: int) -> None:
    guest = machine(MEMORY_SIZE)
    for mode in WALK_MODES:
        for seed in range(count):
            case = random_walk(seed, mode)
            test_paging.prepare(guest, case)
            result = guest.pcpu.walk(case.va, test_paging.ACCESS[case.access], test_paging.how(case))
            granted = (guest.word(b.W_PERM), guest.word(b.W_SHIFT)) if result[1] < 0 else ()
            print("walk", mode, seed, result, granted, hashlib.sha256(guest.memory[:MEMORY_SIZE]).hexdigest()[:16])


def events(count: int) -> None:
    guest = machine(MEMORY_SIZE)
    for mode in EVENT_MODES:
        for seed in range(count):
            guest.put(b.NOW, 0)
            outcome = test_events.raise_it(guest, random_event(seed, mode))
            print("event", mode, seed, outcome, test_events.chain(guest), texts(guest))


def decodes(count: int) -> None:
    guest = machine(MEMORY_SIZE)
    for mode in test_decode.MODES:
        rng = random.Random(f"same {mode}")
        for n in range(count):
            if n % 16 == 0:
                test_decode.set_mode(guest, mode, rng)
            code = test_decode.instruction(rng, mode)
            at = guest.registers.segment("cs").base + guest.registers.get("rip")
            guest.memory[at : at + len(code)] = code
            words = (b.D_OPCODE, b.D_MODRM, b.D_EA, b.D_SIZE, b.D_IMMEDIATE)
            print("decode", mode, n, guest.pcpu.decode(), [guest.word(word) for word in words])


def guest_program() -> None:
    guest = program(GUEST, paging=True)
    symbols = _symbols()
    memory = guest.memory
    for vector, name, dpl in ((14, "fault", 0), (0x80, "interrupt", 3)):
        memory[IDT + 8 * vector : IDT + 8 * vector + 8] = build.gate(14, CODE0, symbols[name], dpl)
    for page, entry in ((0x380, 0x80003), *((page, 0) for page in range(0x300, 0x340))):
        at = TABLES + 0x1000 + 4 * page
        memory[at : at + 4] = entry.to_bytes(4, "little")
    registers = guest.registers
    registers.set("efer", 1)
    registers.set("star", CODE0 << 32 | symbols["finished"])
    port = [0]

    def access(kind: int) -> int:
        value = guest.word(b.X_INFO, 2)
        port[0] = (port[0] * 3 + value + guest.word(b.X_INFO) + registers.get("rip")) & 0xFF
        guest.pcpu.words[(b.X_INFO >> 3) + 3] = port[0]
        print("access", ExitKind(kind).name, guest.word(b.X_INFO), value, guest.word(b.NOW))
        return 0

    guest.pcpu.on_access(access)
    rng = random.Random("guest")
    while True:
        if rng.random() < 0.1:
            kind = guest.pcpu.step()
        else:
            guest.until(guest.word(b.NOW) + rng.randrange(1, 4000))
            kind = guest.pcpu.run()
        print("guest", ExitKind(kind).name, texts(guest))
        guest.until(1 << 62)
        if kind not in (ExitKind.DEADLINE, ExitKind.STEPPED):
            break
    print("counts", [guest.word(b.COUNTS, n) for n in range(64)])


def _symbols() -> dict[str, int]:
    from hypervisor.assembler import assemble
    from tests.engine.programs import CODE

    return dict(assemble(GUEST, origin=CODE, mode=32).symbols)


if __name__ == "__main__":
    scale = int(sys.argv[1])
    walks(40 * scale)
    events(100 * scale)
    decodes(100 * scale)
    guest_program()
