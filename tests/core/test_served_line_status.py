"""LSR as the engine serves it: a guest that polls it, and a person who types, are told the same as by the device."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.devices.uart16550 import POLLS_TO_LISTEN
from tests.meanwhile import alongside
from tests.sectors import boot_sector

ROUNDS = 400
GUEST = """
    mov edi, {seed}
next:
    imul edi, edi, 69069
    add edi, 12345
    mov ecx, edi
    shr ecx, 16
    and ecx, 127
    inc ecx
    mov dx, 0x3fd
poll:
    in al, dx
    add esi, eax
    rol esi, 1
    test al, 1
    jnz taken
    dec ecx
    jnz poll
    jmp send
taken:
    mov dx, 0x3f8
    in al, dx
    add esi, eax
    rol esi, 1
send:
    mov ecx, edi
    shr ecx, 24
    and ecx, 7
    jz more
    mov dx, 0x3f8
    mov al, 'x'
    out dx, al
more:
    inc ebp
    cmp ebp, {rounds}
    jb next
    mov al, 0
    mov dx, 0xf4
    out dx, al
    hlt
"""


def outcome(seed: int, how: str) -> dict[str, Any]:
    rng = random.Random(seed)
    source = boot_sector(GUEST.format(seed=seed * 7919 + 1, rounds=ROUNDS))
    with hv.boot(source, memory="2M") as vm:
        if how == "by the device":
            vm.tables.set_timed([], [])
        if how == "before a handler":
            vm.traps.port_in(0x3FD, lambda vcpu, exit: None, mode="observe")
        for _ in range(6):
            vm.serial[0].write(bytes(rng.randrange(256) for _ in range(rng.randrange(9))))
            if vm.run(virtual_timeout=rng.randrange(1, 3_000_000) / 1e9, timeout=60).reason is not hv.Reason.TIMEOUT:
                break
        result = vm.run(virtual_timeout=10, timeout=60)
        assert result.reason is hv.Reason.DEBUG_EXIT, result
        return {
            "sum": vm.vcpu.esi, "time": vm.clock.now_ns, "console": vm.console.text,
            "uart": vm.devices["uart0"].state(), "reads": vm.stats["port_in"],
        }  # fmt: skip


@pytest.mark.parametrize("seed", range(1, 7))
def test_what_a_guest_reads_is_what_the_device_says(seed: int) -> None:
    served = outcome(seed, "by the engine")
    assert served["reads"] > ROUNDS
    for how in ("by the device", "before a handler"):
        other = outcome(seed, how)
        assert served == other, (how, {name for name in served if served[name] != other[name]})


def test_the_device_is_not_asked_for_each_character() -> None:
    source = boot_sector("mov dx, 0x3fd; again: in al, dx; test al, 0x20; jz again; mov dx, 0x3f8; out dx, al\n"
                         "mov dx, 0x3fd; dec cx; jnz again; mov dx, 0xf4; out dx, al; hlt")  # fmt: skip
    with hv.boot(source, memory="2M") as vm:
        asked = []
        device = vm.devices["uart0"]
        table = device._tables[0][0]
        table[5] = lambda read=table[5]: asked.append(1) or read()
        device._switch_registers()
        assert vm.run(timeout=60).reason is hv.Reason.DEBUG_EXIT
        assert vm.stats["port_in"] > 1000 and len(asked) <= 1


COUNTED = """
    mov ecx, {reads}
    mov dx, 0x3fd
again:
    in al, dx
    dec ecx
    jnz again
    mov dx, 0xf4
    out dx, al
    hlt
"""


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_each_read_is_counted_once_beside_a_neighbour_and_kicked(clock: str) -> None:
    rng, over = random.Random(3), threading.Event()
    with hv.Host("16M", 1) as host, host.create_vm(boot_sector("again: inc eax; jmp again"), memory="2M") as other:
        other.start()

        def kicks() -> None:
            while not over.wait(rng.random() / 3000):
                host.pcpus[0].kick()

        with alongside(kicks, over.set):
            for reads in (1, POLLS_TO_LISTEN - 1, POLLS_TO_LISTEN, *(rng.randrange(1, 130) for _ in range(30))):
                image = boot_sector(COUNTED.format(reads=reads))
                with host.create_vm(image, memory="2M", clock=clock) as vm:
                    before = vm.devices["uart0"].state().polls
                    assert vm.run(timeout=60).reason is hv.Reason.DEBUG_EXIT
                    uart = vm.devices["uart0"].state()
                    assert uart.polls == min(before + reads, POLLS_TO_LISTEN)
                    assert uart.listens is (before + reads >= POLLS_TO_LISTEN)
                    assert vm.stats["port_in"] == reads
        other.stop()
