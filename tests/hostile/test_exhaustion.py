"""A guest cannot make the host's memory grow: output, counters, timers and the log are bounded."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.backends.console import KEPT, Console
from hypervisor.run.machine import MAX_UNCLAIMED
from hypervisor.vm.device_memory import ReadOnlyMemory
from tests.hostile.cases import load
from tests.hostile.floods import KINDS
from tests.hostile.scenes import MEMORY
from tests.hostile.worker import prepare
from tests.sectors import boot_sector

ROOT = Path(__file__).parents[2]
_FLOOD = """
import resource
from hypervisor.backends.console import Console
console = Console()
heard = 0
def listener(data):
    global heard
    heard += len(data)
console.listen(listener)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
chunk = b"x" * 65536
for _ in range((1 << 30) // len(chunk)):
    console.write(chunk)
assert heard == len(console) == 1 << 30
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def _run(source: str, virtual_s: float, memory: str = "1M") -> hv.VM:
    vm = hv.boot(assemble(source, origin=0x10000, mode=32).code, memory, format="flat", at=0x10000, mode=32)
    result = vm.run(timeout=60, virtual_timeout=virtual_s)
    assert result.reason is hv.Reason.VIRTUAL_TIMEOUT, result
    return vm


def test_a_gigabyte_of_output() -> None:
    done = subprocess.run([sys.executable, "-c", _FLOOD], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) << 10 < 3 * KEPT


def test_positions_survive_what_is_dropped() -> None:
    console = Console()
    console.write(b"first")
    for _ in range(2 * KEPT // 65536 + 1):
        console.write(b"y" * 65536)
    end = len(console)
    console.write(b"last")
    assert console.dropped > 0
    assert console.find(b"first") == -1
    assert console.find(b"last", end - 2) == end
    assert console.bytes.endswith(b"last") and len(console.bytes) <= 2 * KEPT


def test_a_guest_that_prints_for_ever() -> None:
    with _run("mov edx, 0xe9; again: out dx, al; inc eax; jmp again", 0.05) as vm:
        assert 10_000 < len(vm.console)


def test_ports_and_addresses_that_nothing_answers() -> None:
    ports = "again: inc edx; in al, dx; jmp again"
    places = "mov ebx, 0xc0000000; again: mov eax, [ebx]; add ebx, 4096; jmp again"
    for source in (ports, places):
        with _run(source, 0.05) as vm:
            assert len(vm.unclaimed) <= MAX_UNCLAIMED + 1
            assert vm.host_events["unclaimed"] > MAX_UNCLAIMED


def test_unknown_msrs() -> None:
    """Each refused one leads to a handler that tries the next."""
    source = """
        lidt [table]
        mov edi, 0x20000
        mov eax, handler
        mov edx, 0x8e00
        mov ecx, 256
    fill:
        mov [edi], ax
        mov word ptr [edi + 2], 8
        mov [edi + 4], dx
        mov word ptr [edi + 6], 1
        add edi, 8
        dec ecx
        jnz fill
        mov ecx, 0x40000000
    again:
        rdmsr
        jmp again
    handler:
        add esp, 4
        inc ecx
        iretd
    table:
        .word 0x7ff
        .dword 0x20000
    """
    with _run(source, 0.02) as vm:
        assert vm.stats["rdmsr"] > MAX_UNCLAIMED
        assert len(vm.unclaimed) <= MAX_UNCLAIMED + 1


@pytest.mark.parametrize("kind", KINDS)
def test_translations(kind: str) -> None:
    """Code is translated without end, and tables of translations grow: within bounds, and given back."""
    command = [sys.executable, "-m", "tests.hostile.floods", kind, "2M", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    used = json.loads(done.stdout)
    assert used["peak"] - used["before"] < 12, used
    assert used["closed"] - used["before"] < 6, used
    assert used["host_closed"] - used["before"] < 6, used


def test_address_space() -> None:
    """A host with one pCPU reserves what it may use, not gigabytes: a limit of 1.5 GiB is kept (`ulimit -v`)."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29)); "
    run = "import hypervisor as hv; print(hv.boot('hello', '64M').run(timeout=20).reason.value)"
    done = subprocess.run([sys.executable, "-c", limit + run], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "powered-off" in done.stdout, done


def test_timers_that_are_programmed_again_and_again() -> None:
    source = """
    again:
        mov al, 0x30
        out 0x43, al
        mov al, 0xff
        out 0x40, al
        out 0x40, al
        mov al, 0x0b
        out 0x70, al
        mov al, 0x40
        out 0x71, al
        jmp again
    """
    with _run(source, 0.2) as vm:
        assert len(vm.clock.timers._heap) < 1000


def test_the_hosts_memory_stays() -> None:
    """Hundreds of VMs on one host, each gone after its run."""
    with hv.Host("8M", 1) as host:

        def some(count: int) -> None:
            for _ in range(count):
                with host.create_vm(b"\xeb\xfe", memory="1M", format="flat", at=0x10000, mode=32) as vm:
                    vm.run(virtual_timeout=1e-6)

        some(50)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        some(500)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10  # KiB


def test_a_task_that_traps_into_itself() -> None:
    """More than a thousand switches follow each other with no instruction in between, and none nests in another.

    The TSS and its descriptor lie in a ROM: it never becomes busy.
    """
    with hv.Host("4M", 1) as host, host.create_vm(memory=MEMORY) as vm:
        scene = load()["task_that_traps_into_itself"].make()
        prepare(vm, scene)
        page = scene.tables["gdtr"].base + scene.segments["tr"].selector & ~0xFFF
        ReadOnlyMemory(vm, range(page, page + 0x1000))
        result = vm.run(timeout=60, virtual_timeout=12 * scene.virtual_s)
    assert result.reason is hv.Reason.VIRTUAL_TIMEOUT
    assert result.exits["int_n"] == 1 and result.exits["exception"] > 1000


def test_interrupts_onto_a_stack_in_the_codes_page() -> None:
    """As every boot sector has it: what delivery writes there is no code, so nothing is translated anew."""
    source = "mov ax, cs; mov ss, ax; mov sp, 0x7c00; again: mov ah, 2; int 0x16; jmp again"
    with hv.boot(boot_sector(source), memory="1M") as vm:
        vm.run(virtual_timeout=0.05)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        calls = vm.run(virtual_timeout=1.5).exits["int_n"]
        assert calls > 10_000
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < 100 * calls


def test_a_vm_does_not_read_what_another_left() -> None:
    with hv.Host("4M", 1) as host:
        with host.create_vm(memory="4M") as vm:
            vm.dma.write(0, b"\xa5" * vm.memory.size)
        with host.create_vm(memory="4M") as vm:
            assert b"\xa5" * 64 not in vm.memory.read(0, vm.memory.size)
