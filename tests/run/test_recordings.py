"""All that comes from outside is on the record: a second run that is told it from the start ends in the same state.

Threads send, reset, pulse NMI, press the power button and store bytes at moments that are the host's doing, while the
run is stopped, paused and begun again; the second run does all of it by itself, in one go.
"""

from __future__ import annotations

import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import pytest

import hypervisor as hv
from hypervisor.run.inbox import Message, MessageState
from tests.core.smp import machine
from tests.meanwhile import alongside

LIVES, BUTTONS, BYTES, NMIS, ROUNDS, DIGEST, STORED = 0x600, 0x604, 0x608, 0x60C, 0x610, 0x614, 0x4000
"""What the first vCPU counts, each a word of 32 bits (the others count theirs `OTHER` bytes further); what the host
stores. `DIGEST` is of all that they saw, and when.
"""
OTHER = 0x40
LAST = 0xFFFFFFFF
"""Stored by the host: the end."""

SEES = """
again:
    mov eax, [0x4000]; cmp eax, -1; je over
    add ebx, eax; rol ebx, 3; xor ebx, [0x4ffc]
    inc dword ptr [bp + 0x10]; mov [bp + 0x14], ebx
    mov cx, 30
work:
    loop work
    {more}
    jmp again
over:
    cli; hlt
    jmp over
"""
NMI = """
nmi:
    push eax; push edx
    inc dword ptr [bp + 0xc]; rdtsc; xor [bp + 0x14], eax; xor ebx, eax
    pop edx; pop eax; iret
"""
FIRST = """
    cli; xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax; mov sp, 0x7000
    mov bp, 0x600; mov word ptr [8], nmi; mov word ptr [10], 0
    inc dword ptr [0x600]; mov ebx, [0x614]
    mov al, 0xff; out 0x21, al; out 0xa1, al
    mov al, 0xf1; out 0xb2, al; mov ax, 0x100; mov dx, 0x602; out dx, ax
    mov eax, 0x801; mov dx, 0x101; out dx, eax
"""
DEVICES = """
    mov dx, 0x600; in ax, dx; test ax, 0x100; jz no_button
    mov ax, 0x100; out dx, ax; inc dword ptr [0x604]; rdtsc; add ebx, eax
no_button:
    mov dx, 0x3fd; in al, dx; test al, 1; jz no_byte
    mov dx, 0x3f8; in al, dx; add bl, al; inc dword ptr [0x608]
no_byte:
"""
SECOND = "cli; xor ax, ax; mov ds, ax; mov ss, ax; mov sp, 0x6800; mov bp, 0x640; mov ebx, [0x654]"


@contextmanager
def guest(cpus: int) -> Iterator[hv.VM]:
    code = FIRST + SEES.format(more=DEVICES) + NMI
    with machine(code, cpus, SECOND + SEES.format(more="")) as vm:
        yield vm


def counted(vm: hv.VM) -> Counter[str]:
    """What the guest says that came."""
    names = {"lives": LIVES, "power button": BUTTONS, "bytes": BYTES, "NMI": NMIS, "rounds": ROUNDS}
    return Counter({name: struct.unpack("<I", vm.memory.read(at, 4))[0] for name, at in names.items()})


def commands(vm: hv.VM, rng: Random) -> dict[str, Callable[[], object]]:
    """What may come from outside."""
    return {
        "reset": vm.reset,
        "NMI": lambda: vm.nmi(rng.randrange(vm.cpus)),
        "power button": vm.press_power_button,
        "serial port 0": lambda: vm.serial[0].send(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))),
        "memory": lambda: vm.memory.write(0x4000 + rng.randrange(0xFF8), rng.randbytes(4)),
        "look": vm.look,
        "stop": vm.request_stop,
        "pause": lambda: _pause(vm),
    }


def _pause(vm: hv.VM) -> None:
    with vm.paused():
        vm.memory.write(0x4100, b"in a pause")


@contextmanager
def disturbing(vm: hv.VM, rng: Random, count: int, over: threading.Event) -> Iterator[None]:
    """Another thread does all that at random moments; at the end it stores the word that ends the guest."""

    def disturb() -> None:
        try:
            while not counted(vm)["lives"] and not over.is_set():  # before that an NMI would be its end
                over.wait(0.001)
            known = commands(vm, rng)
            for name in [*known, *rng.choices(list(known), k=count)]:
                over.wait(rng.random() * 0.004)
                known[name]()
            vm.memory.write(STORED, struct.pack("<I", LAST))
        except BaseException:
            over.set()
            vm.request_stop()
            raise

    with alongside(disturb):
        yield


@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize(("seed", "count"), [(1, 60), pytest.param(2, 2000, marks=pytest.mark.stress)])
def test_all_that_came_is_played_again(cpus: int, seed: int, count: int) -> None:
    rng, over = Random(seed), threading.Event()
    with guest(cpus) as live, guest(cpus) as again:
        live.inbox.recording = recording = []
        with disturbing(live, rng, count, over):
            while live.run(timeout=120).reason is hv.Reason.STOPPED and not over.is_set():
                if rng.random() < 0.5:
                    live.memory.write(0x4200, rng.randbytes(4))
                if rng.random() < 0.2:
                    live.reset()
        seen = counted(live)
        assert {message.to for message in recording} - {"nothing"} == {
            "reset", "NMI", "power button", "serial port 0", "memory",
        }  # fmt: skip
        assert seen["lives"] > 2 and seen["NMI"] and seen["power button"] and seen["bytes"] and seen["rounds"] > 1000
        again.inbox.replay(recording)
        again.inbox.recording = told = []
        assert again.run(timeout=120).reason is hv.Reason.HALTED
        assert counted(again) == seen
        assert told == recording
        assert again.state() == live.state()


@pytest.mark.parametrize("cpus", [1, 2])
def test_what_comes_a_little_later_makes_another_run(cpus: int) -> None:
    with guest(cpus) as live:
        live.inbox.recording = recording = []
        with disturbing(live, Random(5), 20, threading.Event()):
            while live.run(timeout=120).reason is hv.Reason.STOPPED:
                pass
        state = live.state()
    for number, message in enumerate(recording):
        if message.to in ("NMI", "power button") or message is recording[-1]:
            later = message._replace(at=message.at + 50_000, together=message.together + 50_000)
            with guest(cpus) as again:
                again.inbox.replay([*recording[:number], later, *recording[number + 1 :]])
                again.run(virtual_timeout=0.1)
                assert again.state() != state, message


@pytest.mark.parametrize("cpus", [1, 2])
def test_an_nmi_between_runs_is_a_message(cpus: int) -> None:
    with guest(cpus) as vm:
        vm.run(virtual_timeout=0.001)
        vm.inbox.recording = recording = []
        vm.nmi(cpus - 1)
        assert not recording and not counted(vm)["NMI"]
        vm.run(virtual_timeout=0.001)
        assert [message.to for message in recording] == ["NMI"]
        assert vm.memory.read(NMIS + OTHER * (cpus - 1), 1) == b"\1"
        with pytest.raises(hv.ConfigError, match=f"has vCPUs 0 to {cpus - 1}"):
            vm.nmi(cpus)


@pytest.mark.parametrize(
    ("to", "content", "sentence"),
    [
        ("NMI", b"", "number of no vCPU"), ("NMI", b"\2", "number of no vCPU"), ("memory", b"", "are no memory"),
        ("memory", struct.pack("<QI", 1 << 63, 1), "are no memory"), ("memory", bytes(8), "are no memory"),
        ("memory", struct.pack("<QI", (1 << 20) - 2, 1), "are no memory"),
    ],
)  # fmt: skip
def test_a_message_that_cannot_be_ends_the_run(to: str, content: bytes, sentence: str) -> None:
    with guest(1) as vm:
        state = vm.state()
        state.parts["inbox"].messages += [MessageState(1000, to, content), MessageState(900, to, content, vcpu=0)]
        vm.restore(state.to_bytes())
        result = vm.run(virtual_timeout=0.01)
        assert result.reason is hv.Reason.HOST_ERROR and sentence in result.message


def test_a_board_without_a_power_button_says_so() -> None:
    with machine("cli; hlt", 1, board=hv.pc().without("acpi-pm")) as vm:
        with pytest.raises(hv.DeviceError, match="no power button"):
            vm.press_power_button()


def test_what_the_machine_asked_for_is_played_again() -> None:
    code = (
        "again: mov dx, 0x3fd; in al, dx; test al, 1; jz again; mov dx, 0x3f8; in al, dx; cmp al, '.'; jne again; hlt"
    )
    answers = iter([b"abc", b"d", b"e."])
    with machine(code, 1) as live, machine(code, 1) as again:
        live.inbox.recording = recording = []
        live.console.feed(lambda: next(answers, b""))
        live.run(timeout=60)
        assert [(message.to, message.content) for message in recording] == [
            ("the console asks", b"abc"), ("the console asks", b"d"), ("the console asks", b"e."),
        ]  # fmt: skip
        with pytest.raises(hv.ConfigError, match="cannot be delivered"):
            again.inbox.replay(recording)
        again.console.feed(bytes)
        again.inbox.replay(recording)
        again.run(timeout=60)
        assert again.state() == live.state()


def test_points_are_part_of_the_state_and_refused_for_other_vcpus() -> None:
    point = Message(60_000, "memory", struct.pack("<QI", STORED, LAST), vcpu=0)
    with guest(1) as one, guest(1) as other:
        one.inbox.replay([point])
        other.restore(one.state().to_bytes())
        assert [vm.run(timeout=60).reason for vm in (one, other)] == [hv.Reason.HALTED] * 2
        assert one.state() == other.state() and counted(other)["rounds"] > 5
        with pytest.raises(hv.ConfigError, match="cannot be delivered"):
            one.inbox.replay([point._replace(vcpu=1, at=1 << 40)])
