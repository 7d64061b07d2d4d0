"""A host that has promised more than it has: who goes beyond what it has for sure is stopped, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.units import MIB
from tests.memory.maps import census

AT = 0x10000
TOUCH = """
    mov edi, {first}
again:
    mov [edi], edi
    add edi, 4096
    cmp edi, {end}
    jb again
    mov esi, {first}
look:
    cmp [esi], esi
    jne wrong
    add esi, 4096
    cmp esi, {end}
    jb look
    mov al, 1
    out 0xf4, al
wrong:
    ud2
"""


def touching(host: hv.Host, first: int, end: int) -> hv.VM:
    """A VM of 8 MiB whose guest stores to each page of a range, and looks whether all of that is there."""
    code = assemble(TOUCH.format(first=first, end=end), origin=AT, mode=32).code
    vm = host.create_vm(code, memory="8M", format="flat", at=AT, mode=32)
    vm.traps.port_out(0xF4, name="done")(lambda vcpu, exit: hv.stop("done"))
    return vm


@pytest.fixture
def host() -> Iterator[hv.Host]:
    with closing(hv.Host("8M", 1, overcommit=2)) as host:
        yield host
        for vm in list(host.vms):
            vm.close()
        census(host.memory, [])
        assert host.memory.unreserved == host.memory.limit


def count(host: hv.Host) -> None:
    census(host.memory, [vm.memory.pages for vm in host.vms], host.sharing.frames)


def test_who_goes_beyond_its_part_is_stopped_and_nobody_else(host: hv.Host) -> None:
    greedy, modest = touching(host, MIB, 8 * MIB), touching(host, MIB, 2 * MIB + MIB // 2)
    for _ in range(2):
        result = greedy.run(timeout=60)
        assert result.reason is hv.Reason.STOPPED and "memory is used up" in result.message
        count(host)
    assert greedy.memory.pages.kept == modest.memory.pages.kept == 2 * MIB
    assert greedy.memory.pages.alone + modest.memory.pages.kept == 8 * MIB, "the other's part is left alone"
    assert modest.run(timeout=60).message == "done"
    count(host)
    greedy.close()
    modest.memory.write(2 * MIB + MIB // 2, b"more" * (5 * MIB // 4))
    count(host)


def test_what_is_free_is_anybodys(host: hv.Host) -> None:
    alone = touching(host, MIB, 7 * MIB)
    assert alone.run(timeout=60).message == "done"
    assert alone.memory.pages.alone > 6 * MIB
    with pytest.raises(hv.ConfigError, match="are to be kept for this VM, and other VMs have taken them"):
        host.create_vm(memory="8M")
    alone.close()
    touching(host, MIB, 2 * MIB)


def test_a_store_by_the_host_is_refused_and_one_by_a_handler_stops_the_guest(host: hv.Host) -> None:
    greedy, other = touching(host, MIB, 8 * MIB), touching(host, MIB, 2 * MIB)
    other.traps.remove("done")
    assert greedy.run(timeout=60).reason is hv.Reason.STOPPED
    with pytest.raises(hv.HostFull, match="memory is used up"):
        greedy.memory.write(6 * MIB, b"x" * (2 * MIB))

    @other.traps.port_out(0xF4, name="too much")
    def store(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        vcpu.vm.memory.write(2 * MIB, b"x" * (6 * MIB))
        return hv.HANDLED

    result = other.run(timeout=60)
    assert result.reason is hv.Reason.STOPPED and "memory is used up" in result.message
    count(host)


def test_a_snapshot_is_refused_when_there_is_no_memory_beside_it(host: hv.Host) -> None:
    vm = touching(host, MIB, 7 * MIB)
    vm.run(timeout=60)
    with pytest.raises(hv.HostFull, match="beside a snapshot"):
        vm.snapshot()
    count(host)


def test_a_snapshot_is_charged_to_nobody(host: hv.Host) -> None:
    vm = touching(host, MIB, 2 * MIB)
    vm.run(timeout=60)
    before = vm.memory.pages.alone
    with vm.snapshot() as snapshot, snapshot.fork(prepare=lambda fork: None) as fork:
        assert vm.memory.pages.alone == fork.memory.pages.alone == 0
        fork.memory.write(MIB, b"fork's")
        count(host)
        vm.memory.write(MIB, b"the machine's")
        count(host)
        vm.revert(snapshot)
        count(host)
    vm.memory.write(MIB, b"alone again")
    count(host)
    assert vm.memory.pages.alone <= before


def test_a_host_promises_so_many_times_its_memory_and_no_more(host: hv.Host) -> None:
    for _ in range(2):
        host.create_vm(memory="8M")
    with pytest.raises(hv.ConfigError, match="no 8 MiB of memory left"):
        host.create_vm(memory="8M")
    for wrong in (0.5, 17, "2"):
        with pytest.raises(hv.ConfigError, match="overcommit="):
            hv.Host("8M", overcommit=wrong)  # type: ignore[arg-type]
