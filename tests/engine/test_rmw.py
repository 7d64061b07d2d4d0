"""Exact stops: however often a guest is preempted, no instruction is done twice, none is lost, and time is the same."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest

from hypervisor.arch.exits import ExitKind
from hypervisor.engine import block as b
from hypervisor.engine.state import GPR
from tests.engine.machine import Machine
from tests.engine.programs import SIZE, program

LONG = bool(os.environ.get("HYPERVISOR_STRESS"))
ROUNDS = 100_000 if LONG else 10_000

LOOPS = {
    "inc": "inc dword ptr [0x4000]",
    "xadd": "mov eax, 3; lock xadd [0x4000], eax",
    "push and pop": "push dword ptr [0x4000]; pop eax; add eax, 7; push eax; pop dword ptr [0x4000]",
    "xchg": "mov eax, ecx; xchg [0x4000], eax; add ebx, eax",
    "rep movs": "mov edx, ecx; mov ecx, 5; mov esi, 0x4000; mov edi, 0x4004; rep movsb; mov ecx, edx\n"
    "inc dword ptr [0x4000]",
    "rep stos and scas": "mov edx, ecx; mov ecx, 4; mov edi, 0x4000; mov al, dl; rep stosb; mov ecx, 4\n"
    "mov edi, 0x4000; repe scasb; add ebx, ecx; mov ecx, edx",
    "call": "call function",
    "cmpxchg": "mov eax, [0x4000]; lea edx, [eax + 5]; lock cmpxchg [0x4000], edx",
    "across pages": "inc dword ptr [0x4ffe]; add [0x5ffd], ecx",
    "port": "mov al, cl; out 0x80, al; in al, 0x80; movzx eax, al; add ebx, eax",
    "cpuid": "push ecx; xor eax, eax; cpuid; pop ecx; add dword ptr [0x4000], 1",
}


def start(name: str, rounds: int) -> Machine:
    body = LOOPS[name]
    guest = program(f"""
        mov ecx, {rounds}
        again: {body}
        dec ecx
        jnz again
        hlt
        function: inc dword ptr [0x4000]; ret
    """)
    port = [0]

    def access(kind: int) -> int:
        if kind == ExitKind.PORT_OUT:
            port[0] = (port[0] + guest.word(b.X_INFO, 2)) & 0xFF
        else:
            guest.pcpu.words[(b.X_INFO >> 3) + 3] = port[0]
        return 0

    guest.pcpu.on_access(access)
    return guest


def result(guest: Machine) -> tuple[object, ...]:
    registers = guest.registers
    return (
        [registers.get(name) for name in GPR], registers.get("rip"), registers.get("rflags"), guest.word(b.NOW),
        hash(bytes(guest.memory[:SIZE])),
    )  # fmt: skip


def uninterrupted(name: str, rounds: int) -> tuple[object, ...]:
    guest = start(name, rounds)
    assert guest.pcpu.run() == ExitKind.HLT
    return result(guest)


@pytest.mark.parametrize("name", LOOPS)
def test_deadlines(name: str) -> None:
    expected = uninterrupted(name, ROUNDS)
    rng = random.Random(name)
    guest, stops = start(name, ROUNDS), 0
    while True:
        guest.until(guest.word(b.NOW) + rng.choice((1, 2, 5, rng.randrange(1, 40), rng.randrange(1, 400))))
        kind = guest.pcpu.run()
        if kind == ExitKind.HLT:
            break
        assert kind == ExitKind.DEADLINE and guest.word(b.NOW) >= guest.word(b.NEXT)
        stops += 1
    assert result(guest) == expected
    assert stops > ROUNDS // 20


@pytest.mark.parametrize("name", LOOPS)
def test_steps(name: str) -> None:
    rounds = ROUNDS // 20
    expected = uninterrupted(name, rounds)
    guest, steps = start(name, rounds), 0
    while (kind := guest.pcpu.step()) != ExitKind.HLT:
        assert kind == ExitKind.STEPPED
        steps += 1
    assert result(guest) == expected
    assert steps > 2 * rounds


@pytest.mark.parametrize("name", LOOPS)
def test_kicks_from_another_thread(name: str) -> None:
    rounds = ROUNDS * {"port": 3, "cpuid": 50}.get(name, 200)
    expected = uninterrupted(name, rounds)
    stops = 0
    for _ in range(100):  # a busy host may let the other thread run rarely
        guest = start(name, rounds)
        stops += kicked(guest)
        assert result(guest) == expected
        if stops >= 20:
            return
    pytest.fail(f"only {stops} kicks arrived")


def kicked(guest: Machine) -> int:
    """Run to the end while another thread kicks; how often the guest stopped."""
    stops, done = 0, threading.Event()

    def kicker() -> None:
        while not done.is_set():
            guest.pcpu.kick()
            time.sleep(0.00002)

    thread = threading.Thread(target=kicker)
    thread.start()
    try:
        while (kind := guest.pcpu.run()) != ExitKind.HLT:
            assert kind == ExitKind.DEADLINE
            guest.put(b.KICK, 0)
            stops += 1
    finally:
        done.set()
        thread.join()
    guest.put(b.KICK, 0)
    return stops


def test_all_at_once() -> None:
    """Deadlines, steps and kicks mixed at random."""
    for name in LOOPS:
        rounds = ROUNDS // 10
        expected = uninterrupted(name, rounds)
        rng = random.Random(f"mixed {name}")
        guest = start(name, rounds)
        kind = 0
        while kind != ExitKind.HLT:
            what = rng.randrange(3)
            if what == 0:
                kind = guest.pcpu.step()
                continue
            if what == 1:
                guest.until(guest.word(b.NOW) + rng.randrange(1, 60))
            else:
                guest.pcpu.kick()
            kind = guest.pcpu.run()
            guest.put(b.KICK, 0)
            guest.until(1 << 62)
        assert result(guest) == expected, name
