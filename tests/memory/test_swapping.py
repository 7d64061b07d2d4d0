"""A host that swaps: guests have more than it has, none can tell, and a file that fails costs the one that needs it."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.memory.swap_file import SwapFile
from hypervisor.units import MIB
from tests.memory.scarce import count, scarce
from tests.memory.test_overcommit import touching

AT, FIRST, END, ROUNDS = 0x10000, MIB, 6 * MIB, 6
WANDERS = assemble(
    f"""
    mov ebp, {ROUNDS}
    mov ebx, 12345
round:
    mov ecx, 3000
store:                          # pages in no order, whose words depend on what was there
    imul ebx, ebx, 1103515245
    add ebx, 12345
    mov eax, ebx
    shr eax, 8
    xor edx, edx
    mov edi, {(END - FIRST) // 4}
    div edi
    mov eax, [{FIRST} + edx * 4]
    add eax, ebx
    mov [{FIRST} + edx * 4], eax
    loop store
    mov esi, {FIRST}
    xor eax, eax
sum:
    add eax, [esi]
    rol eax, 3
    add esi, 4
    cmp esi, {END}
    jb sum
    mov ecx, 8
digit:
    rol eax, 4
    push eax
    and al, 15
    add al, 65
    mov dx, 0x3f8
    out dx, al
    pop eax
    loop digit
    dec ebp
    jnz round
    mov al, 1
    out 0xf4, al
    hlt
""",
    origin=AT,
    mode=32,
).code


def wanderer(host: hv.Host, **options: object) -> hv.VM:
    """A VM of 8 MiB whose guest stores to words all over 5 MiB of it and prints sums of them all."""
    vm = host.create_vm(WANDERS, memory="8M", format="flat", at=AT, mode=32, **options)
    vm.vcpu.esp = AT
    vm.traps.port_out(0xF4, name="done")(lambda vcpu, exit: hv.stop("done"))
    return vm


def seen(vm: hv.VM) -> tuple[object, ...]:
    """All that a guest could have noticed."""
    text = "" if vm.console is None else vm.console.text
    memory = hashlib.sha256(vm.memory.read(0, 8 * MIB)).hexdigest()
    assert vm.result is not None
    return vm.result.message, vm.clock.now_ns, vm.figures().exits, text, memory, vm.vcpu.rip, vm.vcpu.eax


@pytest.fixture
def host() -> Iterator[hv.Host]:
    with scarce("8M", 1) as host:
        yield host


@pytest.mark.parametrize("pcpus", [1, 2])
def test_guests_cannot_tell(pcpus: int) -> None:
    with closing(hv.Host("64M", 1)) as host, wanderer(host) as vm:
        vm.run(timeout=60)
        expected = seen(vm)
        assert expected[0] == "done" and len(str(expected[3])) == 8 * ROUNDS
    with closing(hv.Host("8M", pcpus, overcommit=4, swap="24M")) as host, ExitStack() as stack:
        vms = [stack.enter_context(wanderer(host)) for _ in range(3)]
        going = vms
        while going:
            with ThreadPoolExecutor() as pool:
                results = list(pool.map(lambda vm: vm.run(virtual_timeout=0.001, timeout=60), going))
            assert all(one.message == "done" or one.reason is hv.Reason.VIRTUAL_TIMEOUT for one in results), results
            going = [vm for vm, one in zip(going, results, strict=True) if one.message != "done"]
            count(host)
        assert host.swapping is not None and host.swapping.written > 1000 and host.memory.swapped > 4 * MIB
        assert [seen(vm) for vm in vms] == [expected] * 3
        figures = host.figures()
        assert figures.swapped == host.memory.swapped >= sum(vm.memory.swapped for vm in figures.vms) > 4 * MIB
        count(host)


def test_snapshots_forks_clones_reverts_merging_and_saved_machines_beside_it(host: hv.Host, tmp_path: Path) -> None:
    rng = random.Random(1)
    vm = wanderer(host, name="first")
    vm.run(virtual_timeout=0.004)
    data = rng.randbytes(MIB)
    vm.memory.write(6 * MIB, data)
    other = touching(host, MIB, 7 * MIB)
    assert other.run(timeout=60).message == "done"
    assert host.memory.swapped > MIB
    count(host)
    before = vm.memory.read(0, 8 * MIB)
    other.close()
    with vm.snapshot() as moment:
        with (
            moment.fork(prepare=lambda fork: None) as fork,
            moment.clone("second", prepare=lambda clone: None) as clone,
        ):
            count(host)
            for one in (fork, clone):
                assert one.memory.read(0, 8 * MIB) == before
                one.memory.write(3 * MIB, rng.randbytes(100_000))
            host.sharing.scan(3)
            count(host)
            assert vm.memory.read(0, 8 * MIB) == before
        vm.memory.write(2 * MIB, bytes(MIB // 4))
        vm.revert(moment)
        assert vm.memory.read(0, 8 * MIB) == before
        count(host)
    vm.save(tmp_path / "saved")
    with hv.boot(tmp_path / "saved", prepare=lambda vm: None) as again:
        assert again.memory.read(0, 8 * MIB) == before


def test_a_full_file_stops_who_wants_more_and_nobody_else() -> None:
    with closing(hv.Host("8M", 1, overcommit=4, swap="1M")) as host:
        greedy, modest = touching(host, MIB, 8 * MIB), touching(host, MIB, MIB + MIB // 2)
        second = touching(host, MIB, 8 * MIB)
        results = [vm.run(timeout=60) for vm in (greedy, second)]
        full = [result for result in results if result.message != "done"]
        assert full and all(result.reason is hv.Reason.STOPPED for result in full)
        assert "The swap file is full, too (1.0 MiB)" in full[0].message
        assert modest.run(timeout=60).message == "done"
        count(host)


def test_a_disk_that_fails_stops_who_wants_more_and_loses_nothing(
    host: hv.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = touching(host, MIB, 6 * MIB), touching(host, MIB, 7 * MIB)
    assert first.run(timeout=60).message == "done"
    before = first.memory.read(0, 8 * MIB)

    def fail(self: SwapFile, pages: Sequence[tuple[int, memoryview]]) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(SwapFile, "write", fail)
        result = second.run(timeout=60)
        assert result.reason is hv.Reason.STOPPED
        assert "Pages cannot be written to the swap file: Input/output error." in result.message
        count(host)
    second.close()
    assert first.memory.read(0, 8 * MIB) == before
    third = touching(host, MIB, 7 * MIB)
    assert third.run(timeout=60).message == "done", "the disk is well again"
    assert first.memory.read(0, 8 * MIB) == before and host.memory.swapped
    count(host)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(hv.ConfigError, match="never swaps: give overcommit="):
        hv.Host("8M", swap="8M")
    with pytest.raises(hv.ConfigError, match=r"cannot be made in .*: No such file or directory"):
        hv.Host("8M", overcommit=2, swap="8M", swap_folder=tmp_path / "not there")
    with pytest.raises(hv.ConfigError, match="cannot be made"):
        hv.Host("8M", overcommit=2, swap=1 << 50, swap_folder=tmp_path)
    assert not os.listdir(tmp_path)


KILLED = """
import os, signal, sys
import hypervisor as hv
from tests.memory.test_overcommit import touching
host = hv.Host("8M", 1, overcommit=4, swap="24M", swap_folder=sys.argv[1])
vms = [touching(host, 1 << 20, 8 << 20) for _ in range(2)]
assert all(vm.run(timeout=60).message == "done" for vm in vms) and host.memory.swapped
print(os.listdir(sys.argv[1]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_of_the_file_when_the_process_is_killed(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout == "[]\n" and not os.listdir(tmp_path)


def test_the_file_is_closed_with_the_host(tmp_path: Path) -> None:
    def open_in_folder() -> int:
        links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
        return sum(str(tmp_path) in os.readlink(link) for link in links if os.path.lexists(link))

    with closing(hv.Host("8M", 1, overcommit=2, swap="8M", swap_folder=tmp_path)):
        assert open_in_folder() == 1
    assert open_in_folder() == 0
