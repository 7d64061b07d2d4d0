"""The swap file itself, pages that are used while they are on their way there, and processes that fork."""

from __future__ import annotations

import gc
import os
import random
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.engine.frame_kernels import frame_kernels
from hypervisor.memory import GuestMemory, HostMemory
from hypervisor.memory.swap_file import SwapFile
from hypervisor.memory.swapper import Swapper
from hypervisor.units import MIB, PAGE_SIZE
from tests.memory.maps import census
from tests.memory.test_overcommit import touching

PAGES = 300


@pytest.fixture
def file() -> Iterator[SwapFile]:
    with closing(SwapFile(2 * MIB)) as file:
        yield file


def page(number: int) -> bytes:
    return random.Random(number).randbytes(PAGE_SIZE)


def filled(file: SwapFile) -> tuple[HostMemory, GuestMemory, Swapper]:
    """A VM's memory, whose first pages hold something, and have not been used for a while."""
    host = HostMemory(8 * MIB, frame_kernels(), 2, file)
    memory = GuestMemory(host, [(0, 2 * MIB)], 2 * MIB // PAGE_SIZE, object())
    for number in range(PAGES):
        memory.write(number * PAGE_SIZE, page(number))
    swapper = Swapper(host, file)
    picks = swapper.pick(memory.pages, 0, 512)
    assert picks.changed == PAGES and not picks.count, "all were used a moment ago"
    return host, memory, swapper


def test_what_changes_on_its_way_stays(file: SwapFile) -> None:
    """Between picking and showing anybody may have the VM: pages that were stored to or cleared keep what they have,
    those that a snapshot has, too, their frames, and the others show their slots."""
    host, memory, swapper = filled(file)
    memory.pages.keep(0)
    picks = swapper.pick(memory.pages, 0, 512)
    assert picks.count == PAGES and host.swapped == PAGES * PAGE_SIZE
    memory.write(3 * PAGE_SIZE + 100, b"stored before it is written")
    assert swapper.write(picks)
    memory.write(5 * PAGE_SIZE + 100, b"stored behind that")
    memory.pages.clear(7, 1)
    expected = memory.read(0, 2 * MIB)
    assert swapper.show(memory.pages, picks) == PAGES - 2  # the first of the three was written as it is
    assert host.swapped == (PAGES - 2) * PAGE_SIZE == swapper.written * PAGE_SIZE
    assert memory.read(0, 2 * MIB) == expected
    census(host, [memory.pages])
    for number in range(8):
        memory.write(number * PAGE_SIZE, page(number))
    swapper.drop(swapper.pick(memory.pages, 0, 512))
    again = swapper.pick(memory.pages, 0, 512)
    assert again.count == 8
    frozen = memory.freeze()
    assert swapper.write(again) and swapper.show(memory.pages, again) == 0, "a snapshot has them, too"
    census(host, [memory.pages])
    frozen.close()
    memory.close()
    census(host, [])
    assert not host.swapped


def test_what_a_map_has_for_sure_is_not_swapped(file: SwapFile) -> None:
    host, memory, swapper = filled(file)
    spare = memory.pages.alone - memory.pages.kept
    assert 0 < spare < PAGES * PAGE_SIZE
    before = host.unreserved
    for _ in range(3):
        swapper.swap(memory.pages, 0, 512)
        census(host, [memory.pages])
    assert host.swapped == spare == host.unreserved - before, "each page that was swapped has made room for others"
    assert memory.pages.alone == memory.pages.kept
    memory.close()


def mapped_files(folder: Path) -> int:
    return sum(str(folder) in line for line in Path("/proc/self/maps").read_text().splitlines())


def open_files(folder: Path) -> int:
    names = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    return sum(str(folder) in os.readlink(name) for name in names if os.path.lexists(name))


def test_its_room_is_given_back_with_the_host(tmp_path: Path) -> None:
    host = hv.Host("8M", 1, overcommit=2, swap="8M", swap_folder=tmp_path)
    assert (open_files(tmp_path), mapped_files(tmp_path), os.listdir(tmp_path)) == (1, 1, [])
    host.close()
    assert (open_files(tmp_path), mapped_files(tmp_path)) == (0, 0), "while the host is still known"
    forgotten = HostMemory(8 * MIB, frame_kernels(), 2, SwapFile(MIB, tmp_path))
    del forgotten
    gc.collect()
    assert (open_files(tmp_path), mapped_files(tmp_path)) == (0, 0), "when nobody knows the host any more"


def test_a_process_that_forks_has_its_own() -> None:
    """What the parent swaps afterwards is not what the child reads, and the child can use all that there is."""
    with closing(hv.Host("8M", 1, overcommit=4, swap="24M")) as host:
        vms = [touching(host, MIB, 7 * MIB) for _ in range(2)]
        assert all(vm.run(timeout=60).message == "done" for vm in vms) and host.memory.swapped > 3 * MIB
        expected = [vm.memory.read(0, 8 * MIB) for vm in vms]
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.read(reader, 1)
                assert [vm.memory.read(0, 8 * MIB) for vm in vms] == expected
                census(host.memory, [vm.memory.pages for vm in vms])
                vms[0].close()
                assert vms[1].memory.read(0, 8 * MIB) == expected[1]
                vms[1].memory.write(2 * MIB, b"child's")
                host.close()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        changed = random.Random(1).randbytes(6 * MIB)
        for _ in range(2):
            for vm in vms:
                vm.memory.write(MIB, changed)
        os.write(writer, b".")  # all that there was is gone here
        assert os.waitpid(child, 0)[1] == 0
        assert all(vm.memory.read(MIB, 6 * MIB) == changed for vm in vms)
        census(host.memory, [vm.memory.pages for vm in vms])
        os.close(reader)
        os.close(writer)


def test_children_that_end_at_once_and_hosts_that_are_closed_hold_nobody_up() -> None:
    with closing(hv.Host("8M", 1, overcommit=4, swap="24M")) as host:
        vms = [touching(host, MIB, 7 * MIB) for _ in range(2)]
        assert vms[0].run(timeout=60).message == "done"
        with closing(hv.Host("8M", 1, overcommit=2, swap="1M")) as closed:
            for _ in range(2):
                touching(closed, MIB, 7 * MIB).run(timeout=60)
            assert closed.memory.swapped
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0 if closed.swapping is not None else 1)
            assert os.waitpid(child, 0)[1] == 0
        assert vms[1].run(timeout=60).message == "done"
        census(host.memory, [vm.memory.pages for vm in vms])


@pytest.mark.parametrize("instruction", ["rep stosd", "rep movsd", "rep stosb"])
def test_one_instruction_that_stores_to_more_than_is_left(instruction: str) -> None:
    """It is left in its middle to make room, and takes as long, and does the same, as with memory enough."""
    count = (5 * MIB if "stos" in instruction else 2 * MIB) // (1 if instruction.endswith("b") else 4)
    source = f"mov eax, 7; mov esi, {MIB}; mov edi, {3 * MIB}; mov ecx, {count}; {instruction}; mov al, 1; out 0xf4, al"
    code = assemble(source, origin=0x10000, mode=32).code
    found = []
    for memory, swap in (("64M", None), ("8M", "24M")):
        with closing(hv.Host(memory, 1, overcommit=4, swap=swap)) as host:
            for number in range(2):
                vm = host.create_vm(code, memory="8M", format="flat", at=0x10000, mode=32, name=f"vm{number}")
                vm.memory.write(MIB, page(number) * 512)
                vm.traps.port_out(0xF4, name="done")(lambda vcpu, exit: hv.stop("done"))
                assert vm.run(timeout=60).message == "done"
            assert swap is None or host.memory.swapped > MIB
            found.append([(vm.clock.now_ns, vm.vcpu.edi, vm.memory.read(0, 8 * MIB)) for vm in host.vms])
            census(host.memory, [vm.memory.pages for vm in host.vms])
    assert found[0] == found[1]


def test_others_go_on_while_somebody_waits_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes a frame waits for the disk, with no lock held: others run, are stored to, and are closed."""
    waits, goes_on, write = threading.Event(), threading.Event(), SwapFile.write

    def slow(self: SwapFile, pages: Sequence[tuple[int, memoryview]]) -> None:
        if not waits.is_set():  # it is the first one's pages that take long
            waits.set()
            assert goes_on.wait(20)
        write(self, pages)

    with closing(hv.Host("8M", 2, overcommit=4, swap="24M")) as host:
        first, second = (touching(host, MIB, 6 * MIB) for _ in range(2))
        third, fourth = (touching(host, MIB, MIB + MIB // 4) for _ in range(2))
        assert first.run(timeout=60).message == "done"
        assert fourth.run(timeout=60).message == "done"  # in its place
        expected = first.memory.read(0, 8 * MIB)
        monkeypatch.setattr(SwapFile, "write", slow)
        second.start(timeout=60)
        assert waits.wait(60)
        assert third.run(timeout=60).message == "done" and second.result is None
        first.memory.write(MIB, b"new")
        fourth.close()
        goes_on.set()
        result = second.wait(60)
        assert result is not None and result.message == "done" and host.memory.swapped
        assert first.memory.read(0, 8 * MIB) == expected[:MIB] + b"new" + expected[MIB + 3 :]
        census(host.memory, [vm.memory.pages for vm in host.vms])
