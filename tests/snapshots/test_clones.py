"""A clone: a machine that goes on from a moment as another one than the first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.devices.ide.disk import AtaDisk
from tests.memory.maps import census

AT = 0x10000
DRAW = b"\x0f\xc7\xf0\xe6\x80\xeb\xf9"  # again: rdrand eax; out 0x80, al; jmp again
DISK = bytes(1 << 20)


def give(drawn: dict[str, list[int]]) -> Callable[[hv.VM], None]:
    """A handler that keeps what each machine draws."""

    def prepare(vm: hv.VM) -> None:
        @vm.traps.port_out(0x80, name="drawn")
        def draw(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            drawn.setdefault(vm.name, []).append(vcpu.eax)
            return hv.HANDLED

    return prepare


def serials(vm: hv.VM) -> list[str]:
    """The serial numbers of its drives."""
    channels = [device for name, device in vm.devices.items() if name.startswith("ide")]
    return [drive.serial for channel in channels for drive in channel.drives if isinstance(drive, AtaDisk)]  # type: ignore[attr-defined]


def test_clones_go_on_from_one_moment_as_machines_of_their_own() -> None:
    drawn: dict[str, list[int]] = {}
    prepare = give(drawn)
    options = {"format": "flat", "at": AT, "mode": 32, "memory": "4M", "disks": [DISK], "seed": 7, "name": "first"}
    with hv.Host("8M") as host, host.create_vm(DRAW, prepare=prepare, **options) as vm:
        vm.run(virtual_timeout=0.0001)
        vm.memory.write(0x5000, b"before")
        known = len(drawn["first"])
        with vm.snapshot() as moment:
            used = host.memory.used
            names = ("one", "two", "one")
            clones = [moment.clone(name, prepare=prepare) for name in names]
            fork, chosen = moment.fork("fork", prepare), moment.clone("chosen", seed=7, prepare=prepare)
            assert host.memory.used - used < 5 * 600 * 1024
            for one in (*clones, fork, chosen):
                assert one.memory.read(0x5000, 6) == b"before" and one.clock.now_ns == moment.now_ns
            results = []
            for clone in clones:
                drawn.pop(clone.name, None)
                clone.run(virtual_timeout=0.0001)
                results.append(drawn[clone.name])
            for one in (vm, fork, chosen):
                one.run(virtual_timeout=0.0001)
            assert results[0] == results[2] != results[1], "a clone's name says what it draws"
            assert drawn["fork"] == drawn["first"][known:] and drawn["fork"] not in results
            assert drawn["chosen"] == drawn["first"][: len(drawn["chosen"])], "as from a fresh machine with this seed"
            assert [clone.name for clone in clones] == list(names) and len({c.seed for c in clones} | {7}) == 3
            assert serials(fork) == serials(vm) == ["HV00001"]
            assert serials(clones[0]) == serials(clones[2]) != serials(clones[1])
            assert all(serial.startswith("HV00001-") for clone in (*clones, chosen) for serial in serials(clone))
            census(host.memory, [one.memory.pages for one in host.vms])
            for one in (*clones, fork, chosen):
                one.close()
        census(host.memory, [vm.memory.pages])


def test_a_clone_keeps_its_identity_in_files_and_gives_it_to_its_forks(tmp_path: Path) -> None:
    with hv.boot(memory="2M", disks=[DISK], image="hello") as vm, vm.snapshot() as moment, moment.clone("heir") as heir:
        with heir.snapshot() as later, later.fork() as child, later.clone() as grandchild:
            assert serials(child) == serials(heir) and serials(grandchild) != serials(heir)
        heir.save(tmp_path / "heir.hvs")
        with hv.boot(tmp_path / "heir.hvs") as again:
            assert serials(again) == serials(heir) and again.seed == heir.seed and again.name == "heir"
            assert again.state() == heir.state()


def test_many_clones_are_made_or_none(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def enough(done: int, whole: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with hv.Host("8M") as host, host.create_vm("hello", memory="4M", name="first") as vm:
        vm.run(virtual_timeout=0.0001)
        with vm.snapshot() as moment:
            made = moment.clones(["one", "two"], progress=lambda done, whole: told.append((done, whole)))
            made += moment.clones(20)
            assert told == [(1, 2), (2, 2)] and [one.name for one in made[:2]] == ["one", "two"]
            assert len({one.name for one in made}) == len({one.seed for one in made}) == 22
            assert moment.clones(0) == moment.clones([]) == []
            with moment.clone("one") as alone:
                assert alone.seed == made[0].seed, "as one that is made alone"
            before = list(host.vms)
            with pytest.raises(KeyboardInterrupt):
                moment.clones(5, progress=enough)
            for wrong, text in ((["x", "y", "x"], "one name"), ("xyz", "names of the clones"), (-1, "how many")):
                with pytest.raises(hv.ConfigError, match=text):
                    moment.clones(wrong)
            assert host.vms == before
            census(host.memory, [one.memory.pages for one in host.vms])
            for one in made:
                one.close()
        census(host.memory, [vm.memory.pages])
