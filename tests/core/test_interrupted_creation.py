"""A VM whose creation fails or is interrupted, wherever that is, leaves nothing on its host."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from typing import Any

import pytest

import hypervisor as hv
from tests.sectors import boot_sector

EVERY_LINE = {
    "create_vm",
    "__init__",
    "_init_run",
    "_init_board",
    "_make_vcpu",
    "add",
    "lay",
    "lay_behind",
    "promise",
    "attach",
}
"""Functions of the core in which each line counts; elsewhere each call does."""
CORE = (
    "vm/vm.py",
    "run/machine.py",
    "machine/boot.py",
    "memory/frames.py",
    "memory/guest_memory.py",
    "memory/page_map.py",
    "traps/plugins/plugin_set.py",
    "device_memory.py",
)


class Interrupt(KeyboardInterrupt):
    """The user's, at any time."""


class Plugin:
    """Knows whether it is attached."""

    attached: list[Plugin] = []  # noqa: RUF012

    def attach(self, vm: hv.VM) -> None:
        self.attached.append(self)
        vm.traps.cpuid(lambda vcpu, exit: None, leaf=0x40000000, mode="observe")

    def detach(self) -> None:
        if self in self.attached:
            self.attached.remove(self)


class Steps:
    """Counts what a creation does, and raises at one step of it."""

    def __init__(self, at: int) -> None:
        self.seen: list[str] = []
        self._at = at

    def __call__(self, frame: Any, event: str, argument: object) -> Any:
        code = frame.f_code
        if "/hypervisor/" not in code.co_filename or "/engine/" in code.co_filename:
            return None
        every_line = code.co_name in EVERY_LINE and code.co_filename.endswith(CORE)
        line = linecache.getline(code.co_filename, frame.f_lineno).lstrip()
        if event == "call" or (event == "line" and every_line and not line.startswith(("with ", "except", "raise"))):
            self.seen.append(f"{code.co_filename.rpartition('/hypervisor/')[2]}:{frame.f_lineno} {event}")
            if len(self.seen) - 1 == self._at:
                raise Interrupt
        return self if every_line else None


def _create(host: hv.Host, at: int, disk: Path, modules: bool) -> Steps:
    steps = Steps(at)
    options: dict[str, Any] = {"plugins": [Plugin(), Plugin()], "disks": [hv.Disk(disk, mode="write")]}
    sys.settrace(steps)
    try:
        vm = host.create_vm(boot_sector("hlt") if not modules else "hello", memory="2M", **options)
    except Interrupt:
        pass
    else:
        sys.settrace(None)
        vm.close()
    finally:
        sys.settrace(None)
    return steps


def _check(tmp_path: Path, wanted: int | None) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 16))
    with hv.Host("8M", 1) as host:
        free, used = host.memory.free, host.memory.used
        places = _create(host, -1, disk, False).seen
        first = {place: at for at, place in reversed(list(enumerate(places)))}  # each place once
        steps = sorted(first.values())
        inside = [at for at in steps if places[at].endswith("line")]
        calls = [at for at in steps if not places[at].endswith("line")]
        if wanted is not None:
            calls = calls[:: max(1, len(calls) // wanted)]
        assert len(inside) > 40 and len(calls) > 30
        for at in [*inside, *calls]:
            _create(host, at, disk, False)
            where = f"interrupted at {places[at]}"
            assert host.vms == [], where
            assert not host.memory.promises, where
            assert host.memory.free == free and host.memory.used == used, where
            assert not Plugin.attached, where
        _create(host, -1, disk, False)  # the disk, too, has been given back: it is opened for writing once only
        with host.create_vm("hello", memory="8M") as vm:
            assert vm.run(timeout=30).reason is hv.Reason.POWERED_OFF


def test_an_interrupt_during_a_creation_leaves_nothing(tmp_path: Path) -> None:
    _check(tmp_path, 40)


@pytest.mark.stress
def test_an_interrupt_at_every_call_of_a_creation_leaves_nothing(tmp_path: Path) -> None:
    _check(tmp_path, None)


@pytest.mark.parametrize("number", range(3))
def test_a_part_that_raises_leaves_nothing(number: int) -> None:
    def broken(vm: Any, parts: Any) -> Any:
        raise RuntimeError("broken")

    board = hv.pc()
    for index in range(number):
        board = board.with_part(hv.Part(f"fine{index}", lambda vm, parts: vm.add_memory(None, 4096), ()))
    board = board.with_part(hv.Part("broken", broken, ()))
    with hv.Host("8M", 1) as host:
        for _ in range(3):
            with pytest.raises(RuntimeError, match="broken"):
                host.create_vm("hello", memory="8M", board=board)
        assert host.vms == [] and host.memory.free == 8 << 20 and not host.memory.promises


def test_a_vm_whose_closing_was_interrupted_is_closed_again() -> None:
    with hv.Host("8M", 1) as host:
        vm = host.create_vm("hello", memory="8M")
        vm.on_close.insert(0, lambda: (_ for _ in ()).throw(Interrupt()))
        with pytest.raises(Interrupt):
            vm.close()
        vm.close()
        assert host.vms == [] and host.memory.free == 8 << 20
        vm.close()
