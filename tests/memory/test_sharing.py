"""Frames that hold the same, of VMs on one host: who shares them, when, and that nobody can tell."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.memory import map_words as w
from hypervisor.run.frame_sharing import FrameSharing
from hypervisor.units import MIB, PAGE_SIZE
from tests.meanwhile import again_and_again
from tests.memory.maps import census
from tests.run.test_process_forks import in_a_child

AT, DATA, PAGES = 0x10000, 2 * MIB, 256
LOOKS = f"""
again:
    mov edi, {DATA}
set:
    mov edx, 1000
round:
    mov ecx, 32
page:
    mov eax, [edi + 4088]
    inc dword ptr [0x20000]
    add edi, 4096
    loop page
    sub edi, 32 * 4096
    dec edx
    jnz round
    add edi, 32 * 4096
    cmp edi, {DATA + PAGES * PAGE_SIZE}
    jb set
    jmp again
"""
"""Looks at 32 pages again and again, then at the next 32, and counts."""
STORES = LOOKS.replace("mov eax, [edi + 4088]", "inc dword ptr [edi + 4088]")
SET_S = 1000 * 32 * 24e-9
"""About how long it is with 32 of its pages."""


MOST_STEPS = 100


def page(number: int) -> bytes:
    """What a page holds; every eighth is all zeros."""
    return number.to_bytes(8, "little") * (PAGE_SIZE // 8) if number % 8 else bytes(PAGE_SIZE)


def machine(host: hv.Host, code: str = LOOKS, **options: bool) -> hv.VM:
    """A VM of 4 MiB, with pages that others have, too, and that has run."""
    vm = host.create_vm(assemble(code, origin=AT, mode=32).code, memory="4M", format="flat", at=AT, mode=32, **options)
    for number in range(PAGES):
        vm.memory.write(DATA + number * PAGE_SIZE, b"\xff" * 8)
        vm.memory.write(DATA + number * PAGE_SIZE, page(number))
    vm.run(virtual_timeout=1e-6)
    return vm


def holds(vm: hv.VM, number: int) -> bool:
    return vm.memory.read(DATA + number * PAGE_SIZE, PAGE_SIZE) == page(number)


def count(host: hv.Host) -> None:
    census(host.memory, [vm.memory.pages for vm in host.vms], host.sharing.frames)


def test_pages_that_hold_the_same_have_one_frame_until_somebody_stores() -> None:
    with closing(hv.Host("64M", 2)) as host, ExitStack() as stack:
        vms = [stack.enter_context(machine(host)) for _ in range(4)]
        before = host.memory.used
        first, second, third, fourth = (host.sharing.scan() for _ in range(4))
        assert first.in_use >= 4 * PAGES and not first.looked_at, "all was used a moment ago"
        assert second.zeroed >= 4 * PAGES // 8
        assert third.replaced and fourth[3:] == (0, 0), "then all is found that there is"
        assert before - host.memory.used >= 4 * PAGES // 8 * PAGE_SIZE + 3 * PAGES // 8 * 7 * PAGE_SIZE
        assert host.sharing.saved >= 3 * PAGES // 8 * 7 * PAGE_SIZE
        count(host)
        used = host.memory.used
        vms[1].memory.write(DATA + 9 * PAGE_SIZE, b"its own")
        assert host.memory.used == used + PAGE_SIZE
        assert [holds(vm, 9) for vm in vms] == [True, False, True, True]
        count(host)
        vms[1].memory.write(DATA + 9 * PAGE_SIZE, page(9))
        host.sharing.scan(3)
        assert host.memory.used == used
        vms.pop(0).close()
        assert all(holds(vm, number) for vm in vms for number in range(PAGES))
        count(host)
        while vms:
            vms.pop().close()
        assert host.memory.used == PAGE_SIZE and not host.sharing.frames, "nobody shows the frames any more"


def test_what_a_guest_uses_is_left_alone() -> None:
    with closing(hv.Host("64M", 1)) as host, machine(host) as vm, machine(host, STORES) as other:
        for one in (vm, other):
            one.run(virtual_timeout=SET_S / 4)
        host.sharing.scan()
        for _ in range(3):
            for one in (vm, other):
                one.run(virtual_timeout=SET_S / 8)
            assert 2 * 32 <= host.sharing.scan().in_use <= 2 * (32 + 8)
        assert host.sharing.counts.zeroed >= 2 * (PAGES - 32) // 8
        for number, one in enumerate((vm, other)):
            words = [one.memory.pages.word(DATA // PAGE_SIZE + at) for at in range(32)]
            assert not any(word & w.MAP_SHARED for word in words), f"of machine {number}"
        count(host)


def test_a_vm_that_does_not_share_is_left_alone() -> None:
    with closing(hv.Host("64M", 1)) as host, ExitStack() as stack:
        vms = [stack.enter_context(machine(host, sharing=False)) for _ in range(3)]
        assert sum(host.sharing.scan(4)) == 0
        stack.enter_context(machine(host))
        host.sharing.scan(4)
        assert all(vm.memory.pages.alone >= PAGES * PAGE_SIZE for vm in vms)
        count(host)


@pytest.mark.parametrize("code", [LOOKS, STORES])
def test_guests_that_run_meanwhile_cannot_tell(code: str) -> None:
    """The same instructions, time, registers and memory as of one that does not share."""
    with closing(hv.Host("64M", 2)) as host, ExitStack() as stack:
        alone = stack.enter_context(machine(host, code, sharing=False))
        vms = [stack.enter_context(machine(host, code)) for _ in range(3)]
        for number in range(MOST_STEPS):
            for vm in (alone, *vms):
                vm.start(virtual_timeout=SET_S * 3)
            while any(vm.runner for vm in vms):
                host.sharing.scan()
            for vm in (alone, *vms):
                vm.wait()
            count(host)
            if number >= 4 and host.sharing.counts.replaced > 64:
                break
        else:
            pytest.fail(f"hardly anything was merged: {host.sharing.counts}")
        expected = alone.state()
        for vm in vms:
            assert vm.clock.now_ns == alone.clock.now_ns
            assert vm.memory.read(0, 4 * MIB) == alone.memory.read(0, 4 * MIB)
            assert vm.state().parts["vcpu 0"] == expected.parts["vcpu 0"]


def test_the_host_reads_and_stores_meanwhile() -> None:
    """Between runs, from its own thread: what it reads is never another page's, and what it stores is not lost."""
    problems: list[str] = []

    def use(vm: hv.VM, tag: int) -> None:
        for n in range(1500):
            at = DATA + n * 7 % PAGES * PAGE_SIZE
            number = (at - DATA) // PAGE_SIZE
            if not holds(vm, number):
                problems.append(f"page {number} of {vm.name} in round {n}")
            vm.memory.write(at, bytes([tag]) * 64)
            vm.memory.write(at, page(number))

    with closing(hv.Host("64M", 1)) as host, ExitStack() as stack:
        vms = [stack.enter_context(machine(host)) for _ in range(2)]
        host.sharing.start(pages_per_second=1_000_000)
        threads = [threading.Thread(target=use, args=(vm, tag)) for tag, vm in enumerate(vms, 1)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            with vms[0].snapshot() as moment, moment.fork() as fork:
                assert not host.sharing.frames or fork.memory.size == 4 * MIB
        for thread in threads:
            thread.join()
        host.sharing.stop()
        assert not problems
        count(host)


def test_a_process_that_forks_while_it_is_scanned() -> None:
    """Whatever the scanning thread had in its hands, the child counts, reads, stores and closes."""
    with closing(hv.Host("16M", 1)) as host, machine(host) as vm:
        with again_and_again(host.sharing.scan, 0.0001):
            for _ in range(10):
                in_a_child(lambda: (count(host), holds(vm, 9), vm.memory.write(DATA, b"child's"), vm.close()))
        assert holds(vm, 0)


def test_scanning_ends_with_its_host() -> None:
    host = hv.Host("16M", 1)
    with pytest.raises(hv.ConfigError, match="pages_per_second"):
        host.sharing.start(pages_per_second=0)
    vm = machine(host)
    host.sharing.start()
    names = {thread.name for thread in threading.enumerate()}
    assert "hypervisor-sharing" in names and isinstance(host.sharing, FrameSharing)
    host.close()
    assert "hypervisor-sharing" not in {thread.name for thread in threading.enumerate()}
    assert host.memory.used == PAGE_SIZE and vm.closed and not sum(host.sharing.scan())


def test_it_is_told_how_far_a_scan_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypervisor.run.frame_sharing.TELL_S", 0.0005)
    told: list[tuple[int, int]] = []

    def enough(done: int, whole: int) -> None:
        raise KeyboardInterrupt

    with closing(hv.Host("256M")) as host:
        for _ in range(2):
            vm = host.create_vm("hello", memory="64M")
            vm.run(virtual_timeout=0.0001)
            vm.memory.write(MIB, b"x" * (32 * MIB))
        counts = host.sharing.scan(3, lambda done, whole: told.append((done, whole)))
        zones = {whole for _, whole in told}
        assert zones == {told[-1][0]} and told[-1][0] >= 3 * 2 * 33 * MIB // PAGE_SIZE
        assert told == sorted(told) and len(told) > 2 and counts.replaced > 2 * 8000
        with pytest.raises(KeyboardInterrupt):
            host.sharing.scan(1000, enough)
