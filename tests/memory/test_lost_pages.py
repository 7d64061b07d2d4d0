"""A swap file whose disk cannot read: the VM that needs the page is stopped with a sentence, and nobody else.

The system says so by SIGBUS to whoever touches the page in the mapping. It does the same where a file ends before its
mapping, so that is what these tests put in place of a slot.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.memory import map_words as w
from hypervisor.memory import swap_file
from hypervisor.memory.swap_file import SwapFile
from hypervisor.units import MIB, PAGE_SHIFT, PAGE_SIZE
from tests.memory.maps import census
from tests.memory.test_overcommit import AT, touching

LOST = "cannot be read from the host's swap file"
DATA, GO = 2 * MIB, MIB // 2


def lose(host: hv.Host, vm: hv.VM, gpa: int) -> None:
    """From now on the disk cannot read the slot that a page of a VM lies in."""
    frame = vm.memory.pages.word(gpa >> PAGE_SHIFT) & w.FRAME
    assert frame >= host.memory.slots, "it has not been swapped"
    with tempfile.TemporaryFile() as empty:
        swap_file._map(host.memory.address + frame, PAGE_SIZE, mmap.PROT_READ, mmap.MAP_SHARED, empty.fileno())


def program(host: hv.Host, source: str, name: str) -> hv.VM:
    """A VM that has begun to run, and does this when it runs again."""
    code = assemble(f"wait: cmp byte ptr [{GO}], 0; je wait; {source}", origin=AT, mode=32).code
    vm = host.create_vm(code, memory="8M", format="flat", at=AT, mode=32, name=name)
    vm.memory.write(DATA, b"\x55" * 3 * MIB)
    assert vm.run(virtual_timeout=1e-6).reason is hv.Reason.VIRTUAL_TIMEOUT
    vm.memory.write(GO, b"1")
    return vm


def push_out(host: hv.Host) -> None:
    """Let what nobody uses go to the file."""
    other = touching(host, MIB, 7 * MIB)
    assert other.run(timeout=60).message == "done"
    other.close()


def check(host: hv.Host) -> None:
    census(host.memory, [vm.memory.pages for vm in host.vms], host.sharing.frames)


def stopped(vm: hv.VM) -> None:
    result = vm.run(timeout=20)
    assert (result.reason, LOST in result.message) == (hv.Reason.STOPPED, True), result
    assert f"the first at {DATA:#x}" in result.message


@pytest.fixture
def host() -> Iterator[hv.Host]:
    with closing(hv.Host("8M", 1, overcommit=4, swap="32M")) as host:
        yield host


BY_GUESTS = {
    "load": f"mov al, [{DATA}]; out 0x80, al; hlt",
    "store": f"mov byte ptr [{DATA}], 1; out 0x80, al; hlt",
    "read and write": f"inc byte ptr [{DATA}]; out 0x80, al; hlt",
    "string": f"mov esi, {DATA}; mov edi, {MIB}; mov ecx, 100; rep movsd; out 0x80, al; hlt",
    "outs": f"mov esi, {DATA}; mov dx, 0x80; mov ecx, 8; rep outsb; hlt",
    "hypercall": f"mov eax, [{DATA}]; vmmcall; out 0x80, al; hlt",
    "code": f"mov eax, {DATA}; jmp eax",
    "page walk": f"mov eax, {DATA}; mov cr3, eax; mov eax, cr0; or eax, 0x80000000; mov cr0, eax; out 0x80, al; hlt",
    "interrupt": f"lidt [where]; int 0x21; out 0x80, al; hlt; where: .word 0x7ff; .long {DATA}",
}


@pytest.mark.parametrize("source", BY_GUESTS.values(), ids=BY_GUESTS.keys())
def test_what_a_guest_does_with_it(host: hv.Host, source: str) -> None:
    """It is stopped, has said nothing by what it did not read, and stays stopped; its neighbour goes on."""
    said: list[int] = []
    vm = program(host, source, "needs it")
    vm.traps.port_out(0x80)(lambda vcpu, exit: said.append(exit.value) or hv.HANDLED)
    vm.traps.hypercall(name="heard")(lambda vcpu, exit: said.append(-1) or hv.HANDLED)
    neighbour = touching(host, MIB, 2 * MIB)
    push_out(host)
    lose(host, vm, DATA)
    stopped(vm)
    assert said == [] and host.memory.lost == 1
    stopped(vm)
    assert neighbour.run(timeout=20).message == "done"
    check(host)
    vm.close()
    assert host.memory.swapped == PAGE_SIZE, "the slot is not used again"
    push_out(host)


def test_a_page_that_nobody_needs_hurts_nobody(host: hv.Host) -> None:
    vm = program(host, "mov al, 7; out 0x80, al; hlt", "does not need it")
    vm.traps.port_out(0x80)(lambda vcpu, exit: hv.stop("done"))
    push_out(host)
    lose(host, vm, DATA)
    assert vm.run(timeout=20).message == "done" and not host.memory.lost


def test_whoever_reads_it_for_the_host(host: hv.Host, tmp_path: Path) -> None:
    """Visits by other threads, a clone, a saved machine, a fork, a look for equal pages; the VM runs no further."""
    vm = program(host, "again: inc eax; jmp again", "looked at")
    push_out(host)
    lose(host, vm, DATA)
    with vm.snapshot() as moment, moment.clone("second", prepare=lambda clone: None) as clone:
        with ThreadPoolExecutor(1) as pool:
            vm.start(timeout=60)
            with pytest.raises(hv.PageLost, match=LOST):
                pool.submit(vm.memory.read, DATA - 8, 16).result()
        result = vm.wait(20)
        assert result is not None and result.reason is hv.Reason.STOPPED and LOST in result.message
        for one in (vm, clone):
            assert one.memory.read(DATA - 8, 8) == bytes(8)
            with pytest.raises(hv.PageLost, match=LOST):
                one.memory.read(0, 8 * MIB)
            with pytest.raises(hv.PageLost, match=LOST):
                one.memory.write(DATA + 1, b"x")
            with pytest.raises(hv.PageLost):
                one.save(tmp_path / "saved")
            stopped(one)
        host.sharing.scan(3)
        check(host)
        with pytest.raises(hv.PageLost):
            moment.save(tmp_path / "saved")
        with moment.fork(prepare=lambda fork: None) as fork:
            stopped(fork)
    assert not os.listdir(tmp_path)
    check(host)


def test_devices_that_read_it(host: hv.Host, tmp_path: Path) -> None:
    """A handler that reads its own VM's memory ends its run so, and one that reads another's goes on if it wants to."""
    read: list[object] = []
    vm = program(host, "out 0x80, al; out 0x81, al; hlt", "has a device")
    other = program(host, "out 0x80, al; out 0x81, al; hlt", "reads another's")
    vm.traps.port_out(0x80)(lambda vcpu, exit: read.append(vm.memory.dma.read(DATA, 512)) or hv.HANDLED)

    @other.traps.port_out(0x80)
    def look(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        with pytest.raises(hv.PageLost):
            vm.memory.read(DATA, 1)
        read.append("looked")
        return hv.HANDLED

    other.traps.port_out(0x81)(lambda vcpu, exit: hv.stop("done"))
    push_out(host)
    lose(host, vm, DATA)
    assert other.run(timeout=20).message == "done"
    stopped(vm)
    assert read == ["looked"]
    check(host)


def test_steps_end_there(host: hv.Host) -> None:
    vm = program(host, f"mov al, [{DATA}]; out 0x80, al; hlt", "stepped")
    push_out(host)
    lose(host, vm, DATA)
    vm.step(3)
    stopped(vm)


def test_a_whole_disk_that_is_gone(host: hv.Host) -> None:
    """Nothing of the file can be read any more: who needs it is stopped, and who does not goes on."""
    vms = [touching(host, MIB, 7 * MIB) for _ in range(3)]
    modest = touching(host, MIB, MIB + MIB // 2)
    assert all(vm.run(timeout=60).message == "done" for vm in vms)
    assert host.memory.swapped > 8 * MIB
    os.ftruncate(host.swapping._file._file, 0)  # type: ignore[union-attr]
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda vm: vm.run(timeout=60), vms[:2]))
    assert all(one.reason is hv.Reason.STOPPED for one in results), results
    assert any(LOST in one.message for one in results)
    with pytest.raises(hv.PageLost):
        vms[0].memory.read(0, 8 * MIB)
    for vm in vms:
        vm.close()
    assert modest.run(timeout=60).message == "done"
    check(host)


def test_a_child_that_cannot_read_it(host: hv.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a forked process cannot copy is lost in it, page by page, and not in its parent."""
    vms = [touching(host, MIB, 7 * MIB) for _ in range(2)]
    assert all(vm.run(timeout=60).message == "done" for vm in vms)
    page = next(at for at in range(MIB, 7 * MIB, PAGE_SIZE) if vms[0].memory.pages.word(at >> 12) >= host.memory.slots)
    slot = (vms[0].memory.pages.word(page >> PAGE_SHIFT) & w.FRAME) - host.memory.slots
    expected, pread = vms[0].memory.read(0, 8 * MIB), os.pread

    def failing(file: int, size: int, offset: int) -> bytes:
        if offset <= slot < offset + size:
            raise OSError(5, "Input/output error")
        return pread(file, size, offset)

    monkeypatch.setattr(swap_file.os, "pread", failing)
    child = os.fork()
    if child == 0:
        try:
            assert host.memory.lost == 1
            assert vms[0].memory.read(0, page) == expected[:page]
            assert vms[0].memory.read(page + PAGE_SIZE, MIB) == expected[page + PAGE_SIZE :][:MIB]
            with pytest.raises(hv.PageLost):
                vms[0].memory.read(page, 1)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert vms[0].memory.read(0, 8 * MIB) == expected and not host.memory.lost


def test_a_slot_that_fails_on_its_way_there(host: hv.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written cannot be read a moment later: the pages keep their frames, and nothing is lost."""
    write = SwapFile.write

    def fails(self: SwapFile, pages: list[tuple[int, memoryview]]) -> None:
        write(self, pages)
        with tempfile.TemporaryFile() as empty:
            for offset, _ in pages[::2]:
                at = host.memory.address + host.memory.slots + offset
                swap_file._map(at, PAGE_SIZE, mmap.PROT_READ, mmap.MAP_SHARED, empty.fileno())

    monkeypatch.setattr(SwapFile, "write", fails)
    vms = [touching(host, MIB, 6 * MIB) for _ in range(2)]
    results = [vm.run(timeout=60).message for vm in vms]
    assert host.memory.lost and not any(LOST in one for one in results)
    for vm, message in zip(vms, results, strict=True):
        assert not vm.memory.pages.lost_pages()
        if message == "done":
            for at in range(MIB, 6 * MIB, PAGE_SIZE):
                assert vm.memory.read(at, 4) == at.to_bytes(4, "little")
    assert "done" in results


SENT = """
import os, signal
import hypervisor as hv
with hv.Host("8M", 1, overcommit=2, swap="8M"):
    os.kill(os.getpid(), signal.SIGBUS)
"""


def test_a_signal_that_somebody_sends_is_what_it_was() -> None:
    done = subprocess.run([sys.executable, "-c", SENT], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGBUS, done.stderr


def test_hosts_that_are_gone_are_not_asked() -> None:
    """There is room for 64 hosts with a swap file at a time, however many there have been."""
    for _ in range(70):
        hv.Host("8M", 1, overcommit=2, swap="1M").close()
    for _ in range(70):
        hv.Host("8M", 1, overcommit=2, swap="1M")
        gc.collect()
