"""Machines in files: they go on elsewhere as they would have here, from the same images, with the same code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.backends.overlay import BLOCK
from hypervisor.devices.debug_ports import DebugExit
from hypervisor.state import number, record
from hypervisor.vm.saved.opening import SavedMachine
from tests.twins import bios_guest
from tests.twins.guests import shipped
from tests.twins.resume import outcome
from tests.twins.runs import pairs


@pytest.mark.parametrize(("moments", "seed"), [(1, 5), pytest.param(20, 6, marks=pytest.mark.stress)])
def test_machines_go_on_from_files_in_another_process(moments: int, seed: int, tmp_path: Path) -> None:
    guests = {**shipped(), "bios": bios_guest.make(tmp_path)}
    seen = 0
    for pair in pairs(guests, tmp_path, moments, seed, files=True):
        assert not pair.differences, f"{pair.name}, from {pair.moment_ns} ns: {pair.differences}"
        seen += 1
    assert seen == moments * len(guests)


def saved(path: Path, **options: Any) -> Path:
    """A machine in the middle of its run, in a file."""
    how = {name: options.pop(name) for name in ("compress", "embed") if name in options}
    with hv.boot(**{"image": "preempt", "memory": "4M", **options}) as vm:
        vm.run(virtual_timeout=0.03)
        vm.save(path, **how)
    return path


@pytest.mark.parametrize("compress", [True, False])
def test_a_machine_goes_on_as_it_would_have(tmp_path: Path, compress: bool) -> None:
    path = saved(tmp_path / "file", compress=compress)
    with hv.boot("preempt", memory="4M") as vm, hv.boot(path) as twin:
        vm.run(virtual_timeout=0.03)
        assert twin.clock.now_ns == vm.clock.now_ns > 0
        assert twin.config == vm.config
        assert outcome(twin, 10**9) == outcome(vm, 10**9)


def test_a_machine_that_was_opened_is_saved_as_the_same(tmp_path: Path) -> None:
    path, again = saved(tmp_path / "file"), tmp_path / "again"
    with hv.boot(path) as vm:
        vm.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_a_snapshot_is_saved_as_its_machine_was(tmp_path: Path, disk: Path) -> None:
    path, later = tmp_path / "file", tmp_path / "later"
    with hv.boot("preempt", memory="4M", disks=[str(disk)], floppy=disk.read_bytes()) as vm:
        vm.media.disks[0].write(3, b"x" * 512)
        vm.run(virtual_timeout=0.03)
        vm.save(path)
        with vm.snapshot() as snapshot:
            vm.media.disks[0].write(3, b"y" * 512)
            vm.run()
            snapshot.save(later)
        with pytest.raises(hv.ConfigError, match="is closed"):
            snapshot.save(later)
    assert later.read_bytes() == path.read_bytes()


def test_a_machine_from_a_file_has_snapshots_and_forks(tmp_path: Path) -> None:
    path = saved(tmp_path / "file")
    with hv.boot(path) as vm, hv.boot("preempt", memory="4M") as other:
        other.run(virtual_timeout=0.03)
        with vm.snapshot() as snapshot, snapshot.fork() as fork:
            ends = [outcome(each, 10**9) for each in (other, vm, fork)]
            vm.revert(snapshot)
            assert [*ends, outcome(vm, 10**9)] == [ends[0]] * 4


def test_a_host_opens_it_too_and_as_often_as_is_wanted(tmp_path: Path) -> None:
    path = saved(tmp_path / "file")
    with hv.Host("32M", 1) as host:
        vms = [host.create_vm(path, name=f"{n}") for n in range(3)]
        host.create_vm("hello", memory="4M").close()
        ends = [outcome(vm, 10**9) for vm in vms]
        assert ends[0] == ends[1] == ends[2]
        assert [vm.name for vm in vms] == ["0", "1", "2"]
        for vm in vms:
            vm.close()


def test_a_configuration_may_name_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "file")
    with hv.boot(hv.MachineConfig(image=str(path), name="mine")) as vm:
        assert (vm.name, vm.config.image) == ("mine", "preempt")


@pytest.mark.parametrize("field", [{"memory": "8M"}, {"cpus": 2}, {"clock": "wall"}, {"seed": 1}, {"strict": True}])
def test_what_a_machine_was_saved_with_is_not_changed(tmp_path: Path, field: dict[str, Any]) -> None:
    path = saved(tmp_path / "file")
    with pytest.raises(hv.ConfigError, match=f"{next(iter(field))}=: a machine that is opened from a file has what"):
        hv.boot(path, **field)


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(range(256)) * 4096 * 2)
    return path


def test_a_drive_has_what_was_written_above_its_image(tmp_path: Path, disk: Path) -> None:
    before = disk.read_bytes()
    path = tmp_path / "file"
    with hv.boot("hello", disks=[str(disk)]) as vm:
        vm.media.disks[0].write(3, b"x" * 512)
        vm.media.disks[0].write(100, b"y" * BLOCK)
        vm.save(path)
        content = vm.media.disks[0].read(0, 4096)
    with hv.boot(path) as twin:
        assert twin.media.disks[0].read(0, 4096) == content
        assert b"x" * 512 in content and b"y" * BLOCK in content
        twin.media.disks[0].write(9, b"z" * 512)
    assert disk.read_bytes() == before


def test_a_changed_base_image_is_noticed(tmp_path: Path, disk: Path) -> None:
    path = saved(tmp_path / "file", disks=[str(disk)])
    hv.boot(path).close()
    times = disk.stat()
    content = bytearray(disk.read_bytes())
    content[12345] ^= 1
    disk.write_bytes(content)
    os.utime(disk, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(hv.ImageError, match=r"The disk 0 .*disk.img is not what it was .* say where with disks="):
        hv.boot(path)
    content[12345] ^= 1
    disk.write_bytes(content)
    hv.boot(path).close()


def test_an_image_that_has_moved_is_given_again(tmp_path: Path, disk: Path) -> None:
    path = saved(tmp_path / "file", disks=[str(disk)], cdrom=str(disk))
    moved = disk.rename(tmp_path / "moved")
    with pytest.raises(hv.ImageError, match=r"was saved with the cdrom .*disk.img.* no such file.* where with cdrom="):
        hv.boot(path)
    with pytest.raises(hv.ImageError, match="where with disks="):
        hv.boot(path, cdrom=str(moved))
    with hv.boot(path, cdrom=str(moved), disks=[str(moved)]) as vm:
        assert vm.media.disks[0].read(0, 1) == vm.media.cd.read(0, 1)[:512]  # type: ignore[union-attr]
    with hv.boot(path, cdrom=moved.read_bytes(), disks=[str(moved)]):
        pass
    moved.write_bytes(b"other" * 1000)
    for other in (str(moved), moved.read_bytes()):
        with pytest.raises(hv.ImageError, match="is not what it was"):
            hv.boot(path, cdrom=other, disks=[str(moved)])


@pytest.mark.parametrize("given", [{"disks": ["a", "b"]}, {"cdrom": "x"}, {"modules": ["x"]}])
def test_only_what_it_had_is_given_again(tmp_path: Path, disk: Path, given: dict[str, Any]) -> None:
    path = saved(tmp_path / "file", disks=[str(disk)])
    with pytest.raises(hv.ConfigError, match=f"{next(iter(given))}=: the machine in .* was saved with"):
        hv.boot(path, **given)


def test_a_disk_that_the_guest_writes_is_opened_when_it_is_named(tmp_path: Path, disk: Path) -> None:
    path = saved(tmp_path / "file", disks=[hv.Disk(str(disk), mode="write")])
    with pytest.raises(hv.ConfigError, match="is one that the guest writes, so it is not opened unasked"):
        hv.boot(path)
    with pytest.raises(hv.ConfigError, match="was saved with mode=write"):
        hv.boot(path, disks=[hv.Disk(str(disk))])
    with hv.boot(path, disks=[hv.Disk(str(disk), mode="write")]) as vm:
        vm.media.disks[0].write(0, b"changed".ljust(512))
    assert disk.read_bytes().startswith(b"changed")
    with pytest.raises(hv.ImageError, match="is not what it was"):
        hv.boot(path, disks=[hv.Disk(str(disk), mode="write")])


def test_images_that_were_bytes_are_in_the_file(tmp_path: Path) -> None:
    from hypervisor.guests import shipped as guest

    image, cd = guest("preempt").image, b"cd" * 5000
    with hv.boot(image, memory="4M", cdrom=cd) as vm:
        vm.run(virtual_timeout=0.03)
        vm.save(tmp_path / "file")
        with hv.boot(tmp_path / "file") as twin:
            assert (twin.config.image, twin.config.cdrom) == (image, cd)
            assert outcome(twin, 10**9) == outcome(vm, 10**9)


def test_files_can_be_put_into_the_file(tmp_path: Path, disk: Path) -> None:
    content = disk.read_bytes()
    path = saved(tmp_path / "file", disks=[str(disk)], embed=True)
    disk.unlink()
    with hv.boot(path) as vm:
        assert vm.media.disks[0].read(0, len(content) // 512) == content


def test_a_relative_path_is_found_from_anywhere(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "file", disks=["disk.img"])
    with hv.boot(path) as vm:
        assert vm.config.disks == (hv.Disk("disk.img"),)
    monkeypatch.chdir("/")
    with hv.boot(path) as vm:
        assert vm.config.disks == (hv.Disk(str(disk)),)


def test_a_guest_of_the_package_is_not_mistaken_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "file")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "preempt").write_text("not it")
    with pytest.raises(hv.ConfigError, match="see that no file here is called preempt"):
        hv.boot(path)


def test_a_reset_starts_the_image_again(tmp_path: Path) -> None:
    path = saved(tmp_path / "file")
    with hv.boot("preempt", memory="4M") as vm, hv.boot(path) as twin:
        vm.run(virtual_timeout=0.03)
        for each in (vm, twin):
            each.reset()
        assert outcome(twin, 10**9) == outcome(vm, 10**9)


def test_symbols_come_with_the_image(tmp_path: Path) -> None:
    with hv.boot("preempt", memory="4M") as vm, hv.boot(saved(tmp_path / "file")) as twin:
        assert dict(twin.symbols) == dict(vm.symbols) != {}


# --- code -------------------------------------------------------------------------------------------------------------


@record
class CountState:
    count: int = number(0, 1 << 40)


class Counting:
    """A plugin that remembers how often it was asked."""

    def __init__(self, start: int = 0) -> None:
        self.count = start

    def attach(self, vm: hv.VM) -> None:
        vm.on_close.append(lambda: None)

    def state(self) -> CountState:
        return CountState(self.count)

    def restore(self, state: CountState) -> None:
        self.count = state.count


def test_plugins_are_given_again(tmp_path: Path) -> None:
    path, mine = tmp_path / "file", Counting()
    with hv.boot("hello", plugins=[mine]) as vm:
        mine.count = 42
        vm.save(path)
    with pytest.raises(hv.PluginError, match=r"had the plugins Counting, and none is given.* give the same ones again"):
        hv.boot(path)
    with pytest.raises(hv.PluginError, match="Counting, Counting are given"):
        hv.boot(path, plugins=[mine, mine])
    again = Counting()
    with hv.boot(path, plugins=[again]):
        assert again.count == 42
    with pytest.raises(hv.PluginError, match="had no plugins, and Counting are given"):
        hv.boot(saved(tmp_path / "other"), plugins=[again])


def test_a_file_never_says_which_code_runs(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with hv.boot("hello", plugins=["tests.snapshots.test_saved_machines:Counting,start=3"]) as vm:
        vm.save(path)
    with pytest.raises(hv.PluginError, match=r"had the plugins tests.snapshots.test_saved_machines:Counting"):
        hv.boot(path)
    with hv.boot(path, plugins=["tests.snapshots.test_saved_machines:Counting"]) as vm:
        assert [plugin.count for _, plugin in vm.plugins] == [3]


def test_handlers_by_hand_are_given_again(tmp_path: Path) -> None:
    def prepare(vm: hv.VM) -> None:
        @vm.traps.port_in(0x900)
        def dice(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            return hv.HANDLED

    path = tmp_path / "file"
    with hv.boot("hello", prepare=prepare) as vm:
        vm.save(path)
    with pytest.raises(hv.ConfigError, match=r"was given handlers by hand \(.*dice.*\), and would go on without them"):
        hv.boot(path)
    with hv.boot(path, prepare=prepare) as vm:
        assert len(vm.traps.by_hand()) == 1


def test_devices_and_memory_by_hand_are_given_again(tmp_path: Path) -> None:
    def prepare(vm: hv.VM) -> None:
        vm.attach(DebugExit(lambda status: None, "mine"), ports=range(0x900, 0x904))
        vm.add_memory(0xE0000000, 8192, "frame")

    path = tmp_path / "file"
    with hv.boot("hello", prepare=prepare) as vm:
        vm.memory.write(0xE0001000, b"drawn")
        vm.save(path)
    with pytest.raises(hv.ImageError, match=r"no machine that can go on here: it has device mine, memory \d frame"):
        hv.boot(path)
    with hv.boot(path, prepare=prepare) as vm:
        assert vm.memory.read(0xE0001000, 6) == b"drawn\0"


def test_a_board_is_given_again(tmp_path: Path) -> None:
    path, board = tmp_path / "file", hv.pc()
    with hv.boot("hello", board=board) as vm:
        vm.save(path)
    with pytest.raises(hv.ConfigError, match=r"has the board .*, which is code: give it again"):
        hv.boot(path)
    hv.boot(path, board=board).close()
    with pytest.raises(hv.ConfigError, match="has the usual board"):
        hv.boot(saved(tmp_path / "other"), board=board)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_machine_that_runs_is_not_saved(tmp_path: Path) -> None:
    with hv.boot("preempt", memory="4M") as vm:
        vm.start()
        try:
            with pytest.raises(hv.ConfigError, match="run"):
                vm.save(tmp_path / "file")
        finally:
            vm.stop()
    assert not (tmp_path / "file").exists()


def test_damage_starts_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path / "file")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    with hv.Host("16M", 1) as host:
        used = host.memory.used
        with pytest.raises(
            hv.ImageError, match=r"is damaged or cut short: in chunk \d+, of .*, its bytes are not those"
        ):
            host.create_vm(path)
        assert host.vms == [] and host.memory.used == used and host.memory.free == host.memory.size


def test_a_part_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with hv.boot("hello") as vm:
        port = DebugExit(lambda status: None)
        port.name = "mine"
        vm.attach(port, ports=range(0x900, 0x904))
        vm.save(path)
    with pytest.raises(
        hv.ImageError, match=r"saved by rootmode.*, is no machine that can go on here: it has device mine"
    ):
        hv.boot(path)


def test_the_records_of_a_file_are_few_bytes(tmp_path: Path) -> None:
    with SavedMachine(saved(tmp_path / "file")) as machine:
        assert machine.file.streams["records"] < 32 << 10
        assert machine.records.pages.counts["memory"].size == 4 << 20
