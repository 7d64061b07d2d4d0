"""Under the virtual clock a run repeats: same output, same exits, same time, on whatever host it runs."""

from __future__ import annotations

import hashlib
import random
import re
import threading
import time
from contextlib import closing
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.run.sharing import scheduler
from tests.sectors import boot_sector

RUNS = 20


def _long(host: hv.Host) -> tuple[bytes, dict[str, int], float]:
    with closing(host.create_vm("long", memory="16M")) as vm:
        result = vm.run(timeout=60)
        assert result.reason is hv.Reason.DEBUG_EXIT, result.message
        return vm.console.bytes, dict(result.exits), result.virtual_s


@pytest.mark.parametrize("cpus", [1, 2])
def test_long_is_the_same_in_twenty_runs_beside_another_vm(cpus: int) -> None:
    with closing(hv.Host(memory="16M", cpus=1)) as host:
        first = _long(host)
    with closing(hv.Host(memory="64M", cpus=cpus)) as host:
        stop = threading.Event()
        neighbours: list[tuple[bytes, dict[str, int], float]] = []

        def disturb() -> None:
            while not stop.is_set():
                neighbours.append(_long(host))

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            runs = [_long(host) for _ in range(RUNS)]
        finally:
            stop.set()
            thread.join()
    assert runs == [first] * RUNS
    assert neighbours == [first] * len(neighbours)


PORTS = """
    cli
    mov cx, 3000
next: mov al, cl
    out 0x80, al
    in al, 0x61
    add bl, al
    xor eax, eax
    cpuid
    mov cx, [0x600]
    inc word ptr [0x600]
    cmp cx, 3000
    jb next
    sti
    hlt                     # until the clock ticks
    mov dx, 0x604
    mov ax, 0x2000
    out dx, ax
"""
WRITES = """
    cli
    xor bx, bx
line: mov dx, 0x3f8
    mov al, bl
    and al, 7
    add al, 0x30
    out dx, al
    mov cx, 300
work: loop work
    mov al, 10
    out dx, al
    inc bx
    cmp bx, 400
    jb line
    hlt
"""
PATTERN = """
    cli
    mov dx, 0x3f8
    mov al, 0x78
    out dx, al
    mov ecx, 3000000        # the letter is there, and the line has not ended: nobody asks for a pattern now
work: dec ecx
    jnz work
    mov al, 10
    out dx, al
    hlt
"""
GUESTS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "long": ("long", {}, None),
    "preempt": ("preempt", {}, None),
    "pagefault": ("pagefault", {}, None),
    "smp": ("smp", {"cpus": 4}, None),
    "ports": (boot_sector(PORTS), {}, None),
    "pattern": (boot_sector(PATTERN), {}, re.compile("x+")),
    "typed": (boot_sector(WRITES), {}, "3"),
}


def _whole_run(host: hv.Host, name: str) -> tuple[Any, ...]:
    image, options, until = GUESTS[name]
    with closing(host.create_vm(image, memory="8M", name=name, **options)) as vm:
        if name == "typed":
            vm.serial[0].send("more than the receiver takes at once, " * 10)
        result = vm.run(timeout=120, virtual_timeout=0.1, until=until)
        digest = hashlib.sha256(vm.memory.read(0, vm.memory.size)).hexdigest()
        where = [(vcpu.position, vcpu.rip, vcpu.rsp) for vcpu in vm.vcpus]
        exits, text = dict(result.exits), vm.console.bytes
        return result.reason, result.virtual_s, exits, text, digest, where, vm.serial[0].pending


@pytest.mark.parametrize("pcpus", [1, 2])
def test_who_else_runs_and_who_kicks_changes_nothing(pcpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each guest has its pCPU taken away as often as can be, moves, and is kicked at random."""
    with closing(hv.Host("16M", 1)) as host:
        alone = {name: _whole_run(host, name) for name in GUESTS}
    assert alone["pattern"][0] is hv.Reason.UNTIL
    monkeypatch.setattr(scheduler, "SLICE_S", 0.0002)
    ended, kicks, runs = threading.Event(), 0, list[tuple[str, Any]]()
    with closing(hv.Host("128M", pcpus)) as host:

        def storm() -> None:
            nonlocal kicks
            generator = random.Random(3)
            while not ended.is_set():
                generator.choice(host.pcpus).kick()
                for vm in list(host.vms):
                    if vm.name != "typed":  # there something does come from outside
                        vm.look()
                kicks += 1
                time.sleep(generator.random() * 0.0004)

        def run(name: str) -> None:
            for _ in range(3):
                runs.append((name, _whole_run(host, name)))

        storming = threading.Thread(target=storm)
        threads = [threading.Thread(target=run, args=(name,)) for name in GUESTS]
        for thread in [storming, *threads]:
            thread.start()
        for thread in threads:
            thread.join()
        ended.set()
        storming.join()
    assert len(runs) == 3 * len(GUESTS) and kicks > 50
    for name, run_beside in runs:
        assert run_beside == alone[name], name
