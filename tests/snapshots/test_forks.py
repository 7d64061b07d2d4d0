"""What a fork shares with the machine that it goes on from, and what not; and what is refused."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.memory.maps import census
from tests.twins.test_users_parts import Own, Quiet, Silent, Sum, program


def read_sector(vm: hv.VM, number: int) -> bytes:
    return vm.media.disks[0].read(number, 1)


def test_a_fork_is_the_same_machine_and_another_one() -> None:
    with program() as vm:
        vm.run(virtual_timeout=0.001)
        vm.memory.write(0x5000, b"before")
        with vm.fork() as fork:
            assert fork.state() == vm.state() and fork.clock.now_ns == vm.clock.now_ns
            fork.memory.write(0x5000, b"fork's")
            vm.memory.write(0x6000, b"the machine's")
            assert vm.memory.read(0x5000, 6) == b"before" and fork.memory.read(0x6000, 3) == bytes(3)
            fork.run(virtual_timeout=0.001)
            assert fork.clock.now_ns > vm.clock.now_ns
            census(vm.host.memory, [one.memory.pages for one in vm.host.vms])


def test_going_back_says_how_many_pages_had_changed() -> None:
    with program() as vm, vm.snapshot() as snapshot:
        before = vm.state()
        assert vm.revert(snapshot) == 0
        for page in range(0x20, 0x24):
            vm.memory.write(page << 12, b"changed")
        vm.run(virtual_timeout=0.001)
        assert vm.revert(snapshot) == 4
        assert vm.state() == before
        census(vm.host.memory, [vm.memory.pages])


def test_going_forth_and_back_between_moments() -> None:
    """Snapshots of one machine share what has not changed between them; each is what it was."""
    with program() as vm:
        moments: list[tuple[hv.Snapshot, Any]] = []
        for n in range(5):
            vm.memory.write(0x20000 + (n << 12), bytes([n + 1]) * 100)
            vm.run(virtual_timeout=0.0001)
            moments.append((vm.snapshot(), vm.state()))
        census(vm.host.memory, [vm.memory.pages])
        for n in (0, 4, 1, 3, 2, 4, 0):
            vm.revert(moments[n][0])
            assert vm.state() == moments[n][1]
        census(vm.host.memory, [vm.memory.pages])
        for snapshot, _ in moments:
            snapshot.close()
        census(vm.host.memory, [vm.memory.pages])


def test_the_pages_of_a_snapshot_are_the_memory_of_that_moment() -> None:
    with program() as vm:
        vm.memory.write(0x5FFE, b"over the end")
        size = vm.memory.size
        before = vm.memory.pages.read(0, size)
        with vm.snapshot() as snapshot:
            vm.memory.write(0x5FFE, b"and changed")
            seen = bytearray(size)
            areas = {number for area in snapshot.areas for number in range(area.first, area.first + area.pages)}
            for number, content in snapshot.pages():
                assert len(content) == 4096 and any(content) and number in areas
                if number < size >> 12:
                    seen[number << 12 : number + 1 << 12] = content
            assert seen == before


def test_a_host_that_a_machine_owns_lives_as_long_as_what_came_of_it() -> None:
    vm = program()
    snapshot = vm.snapshot()
    fork = vm.fork(name="the heir")
    vm.close()
    assert fork.run(virtual_timeout=0.001).reason is hv.Reason.VIRTUAL_TIMEOUT and fork.name == "the heir"
    fork.close()
    with snapshot.fork() as another:
        another.run(virtual_timeout=0.001)
    assert snapshot.host.pcpus
    snapshot.close()
    assert not snapshot.host.pcpus and snapshot.host.memory.used == 4096 and not snapshot.host.memory.promises
    with pytest.raises(hv.ConfigError, match="closed"):
        snapshot.fork()


def test_a_snapshot_that_is_forgotten_gives_its_frames_back() -> None:
    with program() as vm:
        used, promises = vm.host.memory.used, list(vm.host.memory.promises)
        snapshot = vm.snapshot()
        for page in range(0x20, 0x60):
            vm.memory.write(page << 12, b"another frame")
        assert vm.host.memory.used > used + (0x40 << 12)
        vm.revert(snapshot)
        del snapshot
        gc.collect()
        assert vm.host.memory.promises == promises and not vm.host.memory.frozen
        census(vm.host.memory, [vm.memory.pages])


def test_what_is_closed_or_of_another_machine_is_refused() -> None:
    with program() as vm, program() as other:
        with vm.snapshot() as snapshot:
            with pytest.raises(hv.ConfigError, match="is of another machine than"):
                other.revert(snapshot)
        for call in (snapshot.fork, lambda: vm.revert(snapshot), lambda: list(snapshot.pages())):
            with pytest.raises(hv.ConfigError, match=r"snapshot of image is closed|This snapshot is closed"):
                call()
        snapshot.close()


def test_a_machine_that_runs_is_refused_and_one_that_is_paused_is_not() -> None:
    with program() as vm:
        refused: list[str] = []

        def ask(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            for call in (vm.snapshot, vm.fork):
                with pytest.raises(hv.ConfigError, match="is running already"):
                    call()
                refused.append("")
            return hv.stop("asked")

        vm.traps.port_out(0x81, name="ask")(ask)
        assert vm.run(timeout=60).message == "asked" and len(refused) == 2
        vm.traps.remove("ask")
        vm.start()
        with vm.paused():
            snapshot, before = vm.snapshot(), vm.state()
        vm.stop()
        with snapshot, snapshot.fork() as fork:
            assert fork.state() == before
            vm.revert(snapshot)
            assert vm.state() == before


def test_handlers_by_hand_are_given_to_a_fork_by_prepare() -> None:
    seen: list[tuple[str, int]] = []

    def give(vm: hv.VM) -> None:
        @hv.compiled(words=1)
        def count(state, regs, port, size, value):  # type: ignore[no-untyped-def]
            state[0] += 1
            return 0

        def note(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            seen.append((vcpu.vm.name, exit.value))
            return hv.HANDLED

        vm.attach(Own(), ports=range(0x80, 0x81), replace=True)
        vm.traps.port_out(0x82, name="count")(count)
        vm.traps.port_out(0x81, name="note")(note)

    with program() as vm:
        give(vm)
        vm.run(virtual_timeout=0.001)
        with vm.snapshot() as snapshot:
            with pytest.raises(hv.ConfigError, match=r"given handlers by hand \(count, note\).*prepare="):
                snapshot.fork()
            with snapshot.fork(prepare=give) as fork:
                assert fork.state() == vm.state()
                before = seen.copy()
                fork.run(virtual_timeout=0.001)
                theirs = seen[len(before) :]
                assert theirs and {name for name, _ in theirs} == {fork.name}
                vm.run(virtual_timeout=0.001)
                assert [value for _, value in seen[len(before) + len(theirs) :]] == [value for _, value in theirs]
                assert fork.state() == vm.state()


def test_plugins_come_along_with_what_they_remember() -> None:
    with program(plugins=(Sum, Quiet())) as vm:
        vm.run(virtual_timeout=0.001)
        with vm.fork() as fork:
            for one in (vm, fork):
                one.run(virtual_timeout=0.001)
            assert fork.state() == vm.state() and fork.state().parts["plugin 0 Sum"].total > 0
    with program(plugins=(Sum(),)) as vm, pytest.raises(hv.PluginError, match=r"Sum was given as an object.*the class"):
        vm.fork()
    with program(plugins=(Silent,)) as vm, pytest.raises(hv.PluginError, match="Silent does not say what it remembers"):
        vm.snapshot()


def test_a_device_that_the_fork_does_not_have_is_refused_by_name() -> None:
    with program() as vm:
        vm.attach(Own(), ports=range(0x80, 0x81), replace=True)
        with pytest.raises(hv.ConfigError, match="it has device own, which this machine has not"):
            vm.fork()
        vm.add_memory(0x400000, 0x1000, "extra")
        with pytest.raises(hv.ConfigError, match=r"other memory than .* extra"):
            vm.fork(prepare=lambda fork: fork.attach(Own(), ports=range(0x80, 0x81), replace=True))
        assert vm.host.vms == [vm]


def test_drives_are_shared_and_what_is_written_is_not(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"as it was".ljust(510, b"\0") + b"\x55\xaa" + bytes((1 << 20) - 512))
    with hv.Host("16M") as host, host.create_vm(memory="2M", disks=[str(image)]) as vm:
        vm.media.disks[0].write(1, b"before".ljust(512))
        with vm.snapshot() as snapshot:
            image.unlink()  # nobody opens it again
            with snapshot.fork() as fork:
                vm.media.disks[0].write(1, b"the machine's".ljust(512))
                fork.media.disks[0].write(2, b"the fork's".ljust(512))
                assert read_sector(fork, 1).startswith(b"before") and not any(read_sector(vm, 2))
                vm.revert(snapshot)
                assert read_sector(vm, 1).startswith(b"before")
            with snapshot.fork() as fork:
                vm.close()
                assert read_sector(fork, 0).startswith(b"as it was") and not any(read_sector(fork, 2))


def test_a_disk_that_the_guest_changes_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(510) + b"\x55\xaa" + bytes((1 << 20) - 512))
    config = hv.MachineConfig(memory="2M", disks=(hv.Disk(str(image), mode="write"),))
    with hv.Host("16M") as host, host.create_vm(config) as vm:
        with pytest.raises(hv.ConfigError, match=r"is written by the guest.*mode=overlay"):
            vm.snapshot()
        assert not host.memory.frozen and len(host.memory.promises) == len({id(one) for one in host.memory.promises})


def test_a_fork_is_reset_without_the_image(tmp_path: Path) -> None:
    image = tmp_path / "code"
    image.write_bytes(assemble("mov al, 7; out 0x80, al; hlt", origin=0x10000, mode=32).code)
    with hv.boot(str(image), memory="1M", format="flat", mode=32, at=0x10000) as vm:
        image.unlink()
        vm.run(virtual_timeout=0.001)
        with vm.fork() as fork:
            fork.memory.write(0x10000, bytes(16))
            fork.reset()
            assert fork.memory.read(0x10000, 2) == b"\xb0\x07"
            fork.run(virtual_timeout=0.001)
            assert fork.stats == vm.stats + vm.stats


def test_symbols_are_known_in_a_fork() -> None:
    with hv.boot("hello", memory="4M") as vm:
        vm.symbols.add({"mine": 0x1234})
        with vm.fork() as fork:
            assert dict(fork.symbols) == dict(vm.symbols) and fork.symbols["mine"] == 0x1234
            fork.symbols.add({"theirs": 1})
            assert "theirs" not in vm.symbols


def test_forks_in_many_threads() -> None:
    with program() as vm, vm.snapshot() as snapshot:
        problems: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(10):
                    with snapshot.fork() as fork:
                        fork.run(virtual_timeout=0.0001)
                        fork.memory.write(0x30000, fork.name.encode())
            except BaseException as problem:
                problems.append(problem)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems
        census(vm.host.memory, [vm.memory.pages])


def test_more_forks_than_the_hosts_ram_has_room_for() -> None:
    with hv.Host("2M") as host, host.create_vm(memory="2M") as vm, vm.snapshot() as snapshot:
        assert host.memory.free == 0
        forks = [snapshot.fork() for _ in range(20)]
        for fork in forks:
            fork.memory.store(0, bytes(range(256)) * 0x2000)  # all of it
        census(host.memory, [one.memory.pages for one in host.vms])
        assert not any(vm.memory.read(0x100000, 4096))
