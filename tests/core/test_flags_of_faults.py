"""An instruction that faults leaves the arithmetic flags as they were, however late the emulator derives them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

import hypervisor as hv
from tests.core.bare import DATA, bare
from tests.meanwhile import again_and_again, kick

FLAGS = 0x8D5
NOWHERE = 0x40_0000_0000

BEFORE = [
    "mov eax, 0x7fffffff; add eax, 1", "mov eax, 1; dec eax", "mov eax, 0x80000000; shl eax, 1",
    "mov eax, 5; imul eax, eax, 0x40000000", "xor eax, eax", "mov eax, 3; cmp eax, 7", "stc; mov eax, 9; adc eax, eax",
    "mov eax, 0x80000000; bsf ecx, eax; mov ecx, 3", "std; cld; stc", "mov eax, 7; neg eax", "mov al, 200; mul al",
    "mov eax, 0x41; test al, al; sar eax, 1", "mov eax, 0x88; sahf; jmp next; next:",
    *(f"mov ecx, {count}; mov eax, 3; cmp eax, 7; {name} edx, cl"
      for name in ("rol", "ror", "rcl", "shl", "sar", "shr") for count in (0, 3, 32)),
    "mov ecx, 3; mov eax, 3; cmp eax, 7; rol dword ptr [rsi], cl", "mov eax, 3; add eax, 1; setl dl; mov ecx, 2",
]  # fmt: skip
"""What leaves the flags behind, in every form that they can be left in."""

ACCESSES = [
    *(f"set{condition} byte ptr [rdi]" for condition in
      ("o", "no", "b", "ae", "z", "nz", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")),
    *(f"{name} {size} ptr [rdi], {count}" for name in ("rcl", "rcr", "rol", "ror", "shl", "sar", "shr")
      for size, count in (("byte", 1), ("word", 3), ("dword", "cl"), ("qword", 1))),
    "adc [rdi], eax", "sbb [rdi], eax", "add [rdi], eax", "inc dword ptr [rdi]", "neg dword ptr [rdi]",
    "cmp [rdi], eax",
    "xadd [rdi], eax", "lock xadd [rdi], eax", "cmpxchg [rdi], ecx", "lock cmpxchg [rdi], ecx", "bts [rdi], eax",
    "lock btr [rdi], eax", "shld [rdi], eax, 3", "shrd [rdi], eax, cl", "cmovl eax, [rdi]", "cmovbe eax, [rdi]",
    "push qword ptr [rdi]", "pop qword ptr [rdi]", "stosd", "cmpsb", "scasd", "mul dword ptr [rdi]", "imul ecx, [rdi]",
    "div dword ptr [rdi]", "bsf ecx, [rdi]", "popcnt ecx, [rdi]", "call [rdi]", "cmpxchg8b [rdi]",
]  # fmt: skip


@pytest.fixture(scope="module")
def host() -> Iterator[hv.Host]:
    with closing(hv.Host("2M", 1)) as host:
        yield host


def flags(host: hv.Host, code: str, rdi: int) -> tuple[str, int]:
    """How a run ends, and the flags then."""
    with bare(code + "; vmmcall", host=host, rdi=rdi, rsi=DATA) as vm:
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
        vm.traps.exception(14, lambda vcpu, exit: hv.stop("page fault"))
        result = vm.run(timeout=5)
        return result.message, result.rflags & FLAGS


@pytest.fixture(scope="module")
def left(host: hv.Host) -> dict[str, int]:
    """The flags behind each of `BEFORE`, without an access."""
    return {before: flags(host, before, NOWHERE)[1] for before in BEFORE}


@pytest.mark.parametrize("access", ACCESSES)
def test_a_page_fault_changes_no_flags(host: hv.Host, left: dict[str, int], access: str) -> None:
    for before in BEFORE:
        assert flags(host, f"{before}; {access}", NOWHERE) == ("page fault", left[before]), before


@pytest.mark.parametrize("access", [a for a in ACCESSES if a.startswith(("set", "rc"))])
def test_what_is_executed_again_has_the_flags_it_had(host: hv.Host, access: str) -> None:
    """The same, left by a trap on the memory, and then carried out after all."""
    for before in BEFORE:
        outcomes = []
        for times in (0, 1, 3):
            with bare(f"{before}; {access}; vmmcall", host=host, rdi=DATA, rcx=3) as vm:
                left = [hv.RETRY] * times

                @vm.traps.memory(range(DATA, DATA + 8), access="w")
                def refuse(vcpu: hv.Vcpu, exit: hv.Exit, left: list[hv.Verdict] = left) -> hv.Verdict:
                    return left.pop() if left else hv.PASS

                vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
                result = vm.run(timeout=5)
                outcomes.append((result.message, result.rflags & FLAGS, vm.memory.read(DATA, 8)))
        assert outcomes[0] == outcomes[1] == outcomes[2], before


PDPT, DIRECTORY, TABLE, FRAME, PLAIN = 0x3000, 0x7000, 0x8000, 0x90000, 0x91000
ROUNDS = 3000
STORES = f"""
    mov rdi, {4 << 30:#x}; mov rsi, {PLAIN:#x}; mov r8d, {ROUNDS}; mov r9d, 0x12345; xor r15d, r15d
    again:
    imul r9d, r9d, 1103515245; add r9d, 12345; mov ecx, r9d; shr ecx, 27
    mov qword ptr [{TABLE:#x}], 0; invlpg [rdi]
    mov eax, r9d; add eax, 0x40000000; {{store}}
    pushfq; pop r10; and r10d, 0x8d5; mov r11, [rdi]
    mov eax, r9d; add eax, 0x40000000; {{plain}}
    pushfq; pop r12; and r12d, 0x8d5
    cmp r10, r12; jne differs; cmp r11, [rsi]; jne differs
    dec r8d; jnz again
    vmmcall
    differs: inc r15d; vmmcall
"""


LOOP = "a: inc eax; jmp a"


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_under_kicks_and_beside_a_neighbour_nothing_is_lost(clock: str) -> None:
    """Each store meets a page that is not there, and must do what it does to one that is; faults are counted."""
    for name in (
        "setl byte ptr [{}]",
        "rcl dword ptr [{}], 3",
        "adc [{}], eax",
        "mov edx, r9d; rol edx, cl; setbe byte ptr [{}]",
    ):
        code = STORES.format(store=name.format("rdi"), plain=name.format("rsi"))
        with (
            closing(hv.Host("4M", 1)) as host,
            bare(code, host=host, clock=clock) as vm,
            bare(LOOP, host=host) as other,
        ):
            for at, value in ((PDPT + 32, DIRECTORY | 3), (DIRECTORY, TABLE | 3)):
                vm.memory.write(at, value.to_bytes(8, "little"))
            faults = 0

            @vm.traps.exception(14)
            def repair(vcpu: hv.Vcpu, exit: hv.Exit, vm: hv.VM = vm) -> hv.Verdict:
                nonlocal faults
                faults += 1
                vm.memory.write(TABLE, (FRAME | 3).to_bytes(8, "little"))
                return hv.RETRY

            vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
            other.start(timeout=2)
            with again_and_again(partial(kick, vm), 0.0003):
                result = vm.run(timeout=60)
        assert (result.message, result.r15, result.r8, faults) == ("end", 0, 0, ROUNDS), name
