"""Code that changes while it runs: under its own address, under another one, in the next instruction, across pages."""

from __future__ import annotations

import random

import pytest

from hypervisor.arch.exits import ExitKind
from hypervisor.engine import block as b
from tests.engine.machine import Machine
from tests.engine.programs import ALIAS, CODE, program

ROUNDS = 500
SUM = sum(n & 0xFF for n in range(ROUNDS, 0, -1))
ALIASES = {"itself": 0, "kernel": ALIAS, "user": 2 * ALIAS}

PLACES = {
    "same block": "mov [{patch} + 1], cl; patch: mov al, 0; movzx eax, al; add ebx, eax",
    "next block": "mov [{patch} + 1], cl; jmp patch; patch: mov al, 0; movzx eax, al; add ebx, eax",
    "same page": "mov [{patch} + 1], cl; call patch; movzx eax, al; add ebx, eax; jmp over\n"
    "patch: mov al, 0; ret; over: nop",
    "other page": "mov [{patch} + 1], cl; call patch; movzx eax, al; add ebx, eax; jmp over\n"
    ".align 4096\n patch: mov al, 0; ret\n.align 4096\nover: nop",
    "across pages": "mov [{patch} + 1], cl; call patch; movzx eax, al; add ebx, eax; jmp over\n"
    ".align 4096\n.skip 4095, 0x90\npatch: mov al, 0; ret\n.align 4096\nover: nop",
    "rep movs": "mov [0x5000], cl; mov edx, ecx; mov esi, 0x5000; lea edi, [{patch} + 1]; mov ecx, 1; rep movsb\n"
    "mov ecx, edx; patch: mov al, 0; movzx eax, al; add ebx, eax",
    "wide store over two pages": "mov eax, 0xc300b0; mov ah, cl; mov [{patch}], eax; call patch; movzx eax, al\n"
    "add ebx, eax; jmp over\n.align 4096\n.skip 4094, 0x90\npatch: mov al, 0; ret; nop\n.align 4096\nover: nop",
    "locked": "mov al, cl; xchg [{patch} + 1], al; patch: mov al, 0; movzx eax, al; add ebx, eax",
    "push": "mov eax, 0x909000b0; mov ah, cl; mov esi, esp; lea esp, [{patch} + 4]; push eax; mov esp, esi\n"
    "patch: mov al, 0; nop; nop; movzx eax, al; add ebx, eax",
}


WITHIN_ONE_BLOCK = ("same block", "locked", "push")
"""A store into the block that makes it ends the block early, and the clock has counted all of it: the same in each
run, but more than the bytes retired."""


def patching(place: str, alias: int, *, user: bool, rounds: int = ROUNDS) -> Machine:
    body = PLACES[place].replace("{patch}", f"patch + {alias}" if alias else "patch")
    return program(f"mov ecx, {rounds}; xor ebx, ebx\nagain: {body}\ndec ecx; jnz again; hlt", paging=True, user=user)


def finish(guest: Machine) -> tuple[int, int]:
    """Run to HLT; the sum that the guest made, and the time."""
    kind = guest.pcpu.run()
    assert kind in (ExitKind.HLT, ExitKind.SHUTDOWN), ExitKind(kind)  # HLT of user code ends in a triple fault
    return guest.registers.get("rbx"), guest.word(b.NOW)


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("place", PLACES)
def test_every_patch_is_seen(place: str, alias: str) -> None:
    first = finish(patching(place, ALIASES[alias], user=False))
    assert first[0] == SUM
    assert finish(patching(place, ALIASES[alias], user=False)) == first


@pytest.mark.parametrize("place", PLACES)
def test_user_code_patches_through_another_mapping(place: str) -> None:
    assert finish(patching(place, 2 * ALIAS, user=True))[0] == SUM


@pytest.mark.parametrize("place", PLACES)
def test_preempted_while_patching(place: str) -> None:
    expected = finish(patching(place, ALIAS, user=False))
    guest, rng = patching(place, ALIAS, user=False), random.Random(place)
    while True:
        if rng.random() < 0.3:
            kind = guest.pcpu.step()
        else:
            guest.until(guest.word(b.NOW) + rng.randrange(1, 80))
            kind = guest.pcpu.run()
        if kind == ExitKind.HLT:
            break
        guest.until(1 << 62)
    assert guest.registers.get("rbx") == expected[0]
    if place not in WITHIN_ONE_BLOCK:
        assert guest.word(b.NOW) == expected[1]


def test_the_alias_runs_what_was_written_under_the_first_address() -> None:
    guest = program(
        f"""
        mov ecx, {ROUNDS}
        again: mov [patch + 1], cl
        call patch + {ALIAS}
        add ebx, eax
        mov byte ptr [patch + {2 * ALIAS} + 1], 1
        call patch + {ALIAS}
        add edx, eax
        call patch
        add edx, eax
        dec ecx
        jnz again
        hlt
        .align 4096
        patch: mov al, 0; movzx eax, al; ret
        """,
        paging=True,
    )
    assert finish(guest)[0] == SUM and guest.registers.get("rdx") == 2 * ROUNDS


def test_the_host_patches_code() -> None:
    """Host writes are followed by `EngineMemory.written` (wall 8)."""
    guest = program("again: mov al, 0; movzx eax, al; add ebx, eax; cpuid; jmp again", paging=True)
    steps = 0
    for n in range(1, 200):
        guest.memory[CODE + 1] = n
        guest.pcpu.memory.written(guest.hpa(CODE) + 1, 1)
        for _ in range(5):
            assert guest.pcpu.step() == ExitKind.STEPPED
            steps += guest.registers.get("rip") == CODE + 5 and guest.registers.get("rax") == n
        guest.registers.set("rbx", 0)
    assert steps == 199


def test_another_frame_under_the_same_address() -> None:
    """A page-table entry changes, INVLPG, and the same address runs other code."""
    guest = program(
        f"""
        mov edi, {0x10000 + 0x1000 + 4 * 0x30}
        mov dword ptr [0x20000], 0xc301b0       # mov al, 1; ret
        mov dword ptr [0x21000], 0xc302b0       # mov al, 2; ret
        mov ecx, {ROUNDS}
        again: xor eax, eax
        mov dword ptr [edi], 0x20007
        invlpg [0x30000]
        call 0x30000
        add ebx, eax
        xor eax, eax
        mov dword ptr [edi], 0x21007
        invlpg [0x30000]
        call 0x30000
        add ebx, eax
        dec ecx
        jnz again
        hlt
        """,
        paging=True,
    )
    assert finish(guest)[0] == 3 * ROUNDS
