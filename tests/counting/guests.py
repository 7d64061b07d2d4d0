"""A guest for each kind of instruction: it does it a number of times, and both sides count.

What the guest has counted is in R15 (EBP in 32-bit code) when it halts; what arrived was counted by handlers. RSP must
be what it was, and every iteration is one round whatever stopped the guest meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import hypervisor as hv
from hypervisor.assembler import assemble

CODE, IDT, STACK, DATA, READY = 0x10000, 0x60000, 0x70000, 0x80000, 0x90000
PORT, DEVICE, MSR, LEAF = 0x9000, 0xD000_0000, 0xC001_1234, 0x4000_0042
BYTES = 997
"""Elements of one string instruction."""

_PROLOGUE = f"""
    lgdt [gdtr]
    mov rsp, {STACK:#x}
    push 8
    mov eax, flat
    push rax
    retfq
flat:
    mov edi, {IDT:#x}
    xor ecx, ecx
gate:
    mov eax, plain
    cmp ecx, 2
    jne not_nmi
    mov eax, nmi
not_nmi:
    cmp ecx, 13
    je with_error
    cmp ecx, 14
    jne no_error
with_error:
    mov eax, error
no_error:
    mov [rdi], ax
    mov word ptr [rdi + 2], 8
    mov word ptr [rdi + 4], 0x8e00
    shr rax, 16
    mov [rdi + 6], eax
    mov dword ptr [rdi + 10], 0
    mov dword ptr [rdi + 12], 0
    add edi, 16
    inc ecx
    cmp ecx, 256
    jb gate
    lidt [idtr]
    xor r11d, r11d
    xor r12d, r12d
    xor r15d, r15d
    mov r13d, 2
    mov r14d, ROUNDS
    mov edx, {PORT:#x}
    mov ebx, {DEVICE:#x}
    mov rbp, rsp
    mov byte ptr [{READY:#x}], 1
"""

_EPILOGUE = f"""
    sub rbp, rsp
    add r15, rbp
    cli
over_and_done:
    hlt
    jmp over_and_done
error:
    add rsp, 8
plain:
    add [rsp], r13
    inc r15
    iretq
nmi:
    inc r11
    iretq
handler:
    inc r15
    jmp rcx
    .align 8
gdtr: .word 23
    .quad gdt
idtr: .word 4095
    .quad {IDT:#x}
gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
"""

_FAST_CALLS = """
    mov ecx, 0xc0000080
    rdmsr
    or eax, 1
    wrmsr
    mov ecx, 0xc0000082
    mov eax, handler
    xor edx, edx
    wrmsr
    mov ecx, 0xc0000081
    xor eax, eax
    mov edx, 8
    wrmsr
    mov ecx, 0xc0000084
    xor edx, edx
    wrmsr
"""

_SYSENTER = """
    mov ecx, 0x174
    mov eax, 8
    xor edx, edx
    wrmsr
    mov ecx, 0x175
    mov eax, 0x70000
    wrmsr
    mov ecx, 0x176
    mov eax, handler
    wrmsr
    xor ebp, ebp
    mov esi, ROUNDS
    mov edx, back
again:
    sysenter
back:
    dec esi
    jnz again
    cli
    hlt
handler:
    inc ebp
    jmp edx
"""


@dataclass
class Arrived:
    """What handlers have seen."""

    count: int = 0
    """Accesses or exits."""
    wrong: list[str] = field(default_factory=list)
    """Values that were not the next one."""

    def next(self, value: int) -> None:
        """A value that must be one more than the last."""
        self.count += 1
        if value != self.count and len(self.wrong) < 5:
            self.wrong.append(f"{value} as number {self.count}")


Attach = Callable[[hv.VM, Arrived], object]


def _ports(vm: hv.VM, arrived: Arrived) -> None:
    @vm.traps.port_in(PORT)
    def give(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        arrived.count += 1
        exit.value = arrived.count & (1 << 8 * exit.size) - 1
        return hv.HANDLED

    @vm.traps.port_out(PORT)
    def take(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        if exit.size == 1:
            arrived.count += 1
            if exit.value != ((arrived.count - 1) % BYTES + 1) & 0xFF and len(arrived.wrong) < 5:
                arrived.wrong.append(f"{exit.value} as number {arrived.count}")
        else:
            arrived.next(exit.value or 0)
        return hv.HANDLED


class _Register:
    """Device memory: a register that counts how often it is read and written."""

    name = "counter"

    def __init__(self, arrived: Arrived) -> None:
        self._arrived = arrived
        self._value = 0

    def read(self, offset: int, size: int) -> int:
        """The last value written."""
        self._arrived.count += 1
        return self._value

    def write(self, offset: int, size: int, value: int) -> None:
        """Must be one more than the last."""
        self._arrived.count += 1
        if value != self._value + 1 and len(self._arrived.wrong) < 5:
            self._arrived.wrong.append(f"{value} after {self._value}")
        self._value = value

    def reset(self) -> None:
        """Nothing changes."""

    def state(self) -> int:
        """The register."""
        return self._value

    def restore(self, state: object) -> None:
        """Put the register back."""
        assert isinstance(state, int)
        self._value = state


def _device(vm: hv.VM, arrived: Arrived) -> None:
    vm.attach(_Register(arrived), mmio=range(DEVICE, DEVICE + 0x1000))


def _counted(kind: str, **key: int) -> Attach:
    def attach(vm: hv.VM, arrived: Arrived) -> None:
        def count(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            arrived.count += 1
            if kind == "rdmsr":
                exit.value = arrived.count
            else:
                vcpu.rax = arrived.count
                if kind == "cpuid":
                    exit.eax = arrived.count
            return hv.HANDLED

        getattr(vm.traps, kind)(**key)(count)

    return attach


def _watched(kind: str) -> Attach:
    """An observer of what is then executed natively."""

    def attach(vm: hv.VM, arrived: Arrived) -> None:
        def look(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            arrived.count += 1
            return hv.PASS

        getattr(vm.traps, kind)(look)

    return attach


def _triangle(rounds: int) -> int:
    return rounds * (rounds + 1) // 2


@dataclass(frozen=True)
class Kind:
    """One kind of instruction."""

    body: str
    """What a round does; R14 counts down behind it."""
    rounds: int
    attach: Attach | None = None
    setup: str = ""
    guest: Callable[[int], int] = lambda rounds: rounds
    """What the guest has counted after so many rounds."""
    arrived: Callable[[int], int] = lambda rounds: rounds
    """What handlers have counted."""
    exits: str = ""
    """An exit that is counted by the VM's statistics, once a round."""
    memory: Callable[[int], bytes] | None = None
    """What is at `DATA` at the end."""
    whole: str = ""
    """The whole program instead, in 32-bit code."""

    @property
    def mode(self) -> int:
        """Bits of the code."""
        return 32 if self.whole else 64

    def image(self) -> bytes:
        """The program."""
        code = self.whole or (f"{_PROLOGUE}{self.setup}\nagain:\n{self.body}\n dec r14\n jnz again\n{_EPILOGUE}")
        return assemble(code.replace("ROUNDS", str(self.rounds)), origin=CODE, mode=self.mode).code


KINDS: dict[str, Kind] = {
    "syscall": Kind("syscall", 100_000, setup=_FAST_CALLS),
    "sysenter": Kind("", 100_000, whole=_SYSENTER),
    "in": Kind("in eax, dx; add r15, rax", 5_000, _ports, guest=_triangle),
    "out": Kind("inc r15d; mov eax, r15d; out dx, eax", 5_000, _ports),
    "in of nobody": Kind("in al, 0xed; movzx eax, al; sub eax, 254; add r15, rax", 5_000, exits="port_in"),
    "rep insb": Kind(
        f"mov edi, {DATA:#x}; mov ecx, {BYTES}; rep insb; inc r15", 5, _ports, arrived=lambda n: n * BYTES,
        memory=lambda n: bytes((n - 1) * BYTES + i + 1 & 0xFF for i in range(BYTES)),
    ),
    "rep outsb": Kind(
        f"mov esi, {DATA:#x}; mov ecx, {BYTES}; rep outsb; inc r15", 5, _ports, arrived=lambda n: n * BYTES,
        setup=f"""mov edi, {DATA:#x}; xor eax, eax
fill: inc eax; mov [rdi], al; inc edi; cmp eax, {BYTES}; jb fill
""",
    ),
    "cpuid": Kind(
        f"mov eax, {LEAF:#x}; mov r9, rbx; cpuid; mov rbx, r9; add r15, rax", 5_000, _counted("cpuid", leaf=LEAF),
        guest=_triangle,
    ),
    "cpuid of the engine": Kind("xor eax, eax; mov r9, rbx; cpuid; mov rbx, r9; inc r15", 30_000, exits="cpuid"),
    "rdmsr": Kind(f"mov ecx, {MSR:#x}; rdmsr; add r15, rax", 5_000, _counted("rdmsr", msr=MSR), guest=_triangle),
    "sgdt, watched": Kind(f"sgdt [{DATA:#x}]; inc r15", 2_000, _watched("sgdt")),
    "pushf, watched": Kind("pushfq; pop rax; inc r15", 2_000, _watched("pushf")),
    "str, watched": Kind("str eax; inc r15", 2_000, _watched("str")),
    "vmmcall": Kind("vmmcall; add r15, rax", 5_000, _counted("hypercall"), guest=_triangle),
    "device write": Kind("inc r15d; mov [rbx], r15d", 5_000, _device),
    "device read": Kind("mov eax, [rbx]; inc r15; add r15, rax", 5_000, _device),
    "device rmw": Kind(
        "inc dword ptr [rbx]; inc r15", 3_000, _device, arrived=lambda n: 2 * n,
    ),
    "device xadd": Kind(
        "mov eax, 1; lock xadd [rbx], eax; add r15, rax; inc r15", 3_000, _device, guest=_triangle,
        arrived=lambda n: 2 * n,
    ),
    "rmw": Kind(
        f"""inc qword ptr [{DATA:#x}]; lock add qword ptr [{DATA + 8:#x}], 3; mov eax, 5
        lock xadd [{DATA + 16:#x}], rax; not qword ptr [{DATA + 24:#x}]
        btc qword ptr [{DATA + 32:#x}], 7; inc r15""", 200_000,
        memory=lambda n: b"".join(v.to_bytes(8, "little") for v in (n, 3 * n, 5 * n, n % 2 * (2**64 - 1), n % 2 << 7)),
    ),
    "stack": Kind(
        """push r15; call one; pop rax; sub rax, r15; neg rax; add r15, rax; dec r15
        jmp over
one:    inc r15; push r15; pop rax; ret
over:""", 100_000,
    ),
    "pusha of a kind": Kind(
        "push r14; push r15; push rsp; pop rax; add rax, 16; cmp rax, rbp; jne skip; inc qword ptr [rsp]\nskip: "
        "pop r15; pop r14", 100_000,
    ),
    "ud": Kind("ud2", 30_000),
    "de": Kind("xor ecx, ecx; div cl", 30_000),
    "pf": Kind("mov al, [r9]", 30_000, setup="mov r9, 0x1000000000; mov r13d, 3"),
    "gp": Kind("rdmsr", 5_000, setup="mov ecx, 0x12345"),
    "int": Kind("int 0x80", 30_000, setup="xor r13d, r13d"),
    "int3": Kind("int3", 30_000, setup="xor r13d, r13d"),
    "movs": Kind(
        f"""mov esi, {DATA:#x}; mov edi, {DATA + 0x1000:#x}; mov ecx, 0x200; rep movsq
        inc qword ptr [{DATA:#x}]; add r15, [{DATA + 0x1000:#x}]; inc r15""", 300, guest=_triangle,
    ),
    "code that changes": Kind(
        "inc dword ptr [target + 1]\ntarget: mov eax, 0; add r15, rax", 2_000, guest=_triangle,
    ),
    "x87 and sse": Kind(
        f"""addsd xmm0, xmm1; fld1; .byte 0xde, 0xc1; .byte 0xd9, 0xc0; fistp qword ptr [{DATA:#x}]
        cvtsd2si rax, xmm0; mov [{DATA + 8:#x}], rax; inc r15""", 50_000,
        setup="mov rax, cr4; or eax, 0x600; mov cr4, rax; fninit; fldz; mov eax, 1; cvtsi2sd xmm1, rax\n"
        "xorps xmm0, xmm0",
        memory=lambda n: n.to_bytes(8, "little") * 2,
    ),
    "rdtsc": Kind("rdtsc; shl rdx, 32; or rax, rdx; cmp rax, r9; jb less; inc r15\nless: mov r9, rax", 30_000,
                  setup="xor r9d, r9d"),
}  # fmt: skip
"""By name."""
