"""VMs that share a physical CPU: nothing that one has in registers, memory or translated code is ever seen by another.

The keepers look by their own instructions, round after round; what the host side shows of them is compared with the
same keeper's on a host of its own, where nobody can have left anything.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.machine.bare import prepare
from hypervisor.memory.frames import frame_of
from hypervisor.memory.map_words import ZERO
from tests.hostile.keeper import Keeper, keepers, saved_words

_SLICE_S, _SLICES = 7e-5, 12
_TAGS = 0xA5, 0x5A, 0x3B


def _frames(vm: hv.VM) -> set[int]:
    """The frames that the VM's RAM has."""
    return {frame_of(vm.memory.pages.word(page)) for page in range(vm.memory.size // 4096)} - {ZERO}


def _alone(tag: int, cpus: int) -> dict[str, Any]:
    """What a keeper has after `_SLICES` on a host of its own."""
    with hv.Host("4M", 1) as host, keepers(host, tag, cpus=cpus) as (keeper,):
        for _ in range(_SLICES):
            keeper.run(_SLICE_S)
        keeper.check()
        return keeper.everything()


def _compare(keeper: Keeper, expected: dict[str, Any]) -> None:
    found = keeper.everything()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value == expected[name], name


@pytest.mark.parametrize("cpus", [1, 2])
def test_interleaved_with_others(cpus: int) -> None:
    """One after the other in short slices that end anywhere: each has what it has alone."""
    with hv.Host("8M", 1) as host, keepers(host, *_TAGS, cpus=cpus) as made:
        for _ in range(_SLICES):
            for keeper in made:
                keeper.run(_SLICE_S)
        for keeper in made:
            keeper.check()
            _compare(keeper, _alone(keeper.tag, cpus))


@pytest.mark.parametrize("cpus", [1, 2])
def test_after_another_was_closed(cpus: int) -> None:
    """A new VM in the frames of one that is gone, on its processor: as on a host of its own, from its first step on."""
    with hv.Host("2M", 1) as host:
        with keepers(host, _TAGS[0], cpus=cpus) as (first,):
            for _ in range(_SLICES):
                first.run(_SLICE_S)
            first.check()
            frames = _frames(first.vm)
        with keepers(host, _TAGS[1], cpus=cpus) as (second,):
            assert _frames(second.vm) & frames
            for _ in range(_SLICES):
                second.run(_SLICE_S)
            second.check()
            _compare(second, _alone(_TAGS[1], cpus))


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("cpus", [1, 2])
def test_in_threads(cpus: int, clock: str) -> None:
    """Both run all the time, each in a thread of its own, and take the one processor from each other."""
    with hv.Host("8M", 1) as host, keepers(host, *_TAGS[:2], cpus=cpus, clock=clock) as made:
        failures: list[BaseException] = []

        def work(keeper: Keeper) -> None:
            try:
                for _ in range(40):
                    keeper.run(None if clock == "wall" else 3e-4, 0.01 if clock == "wall" else 20)
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=work, args=(keeper,)) for keeper in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        for keeper in made:
            keeper.check(rounds=2)


def test_what_is_not_saved_is_not_reached() -> None:
    """Behind what a switch saves, Unicorn keeps MTRRs, machine checks and more: a guest that writes everything that it
    can changes none of it, so there is nothing there to see for the next one.
    """
    with hv.Host("4M", 1) as host:
        (pcpu,) = host.pcpus
        state = pcpu.words[b.ENV >> 3]

        def behind() -> bytes:
            return ctypes.string_at(state + layout.STATE_SIZE, layout.ENV_UC - layout.STATE_SIZE)

        before = behind()
        with keepers(host, *_TAGS[:2]) as made:
            for keeper in made:
                keeper.run(1e-3)
                keeper.check()
        assert behind() == before


def test_a_vm_that_was_never_run_has_reset_values() -> None:
    """What the host side shows of a new VM does not depend on who was on the processor before."""

    def shown(host: hv.Host) -> list[Any]:
        with hv.VM(host, hv.MachineConfig(memory="1M", name="new")) as vm:
            vcpu = vm.vcpu
            vcpu.reset()
            with vm.placed() as pcpu:
                pcpu.unload()
                saved = bytes(vcpu.state.memory), saved_words(vcpu)
                pcpu.load(vcpu.state)
            names = ("rax", "rip", "rflags", "cr0", "cr2", "cr4", "dr0", "dr3", "dr6", "dr7", "gs", "tr", "gdtr")
            registers = [getattr(vcpu, name) for name in names]
            return [saved, registers, dict(vcpu.msr), vm.memory.read(0, vm.memory.size), dict(vm.stats), vm.events()]

    with hv.Host("4M", 1) as host:
        with keepers(host, _TAGS[0]) as (keeper,):
            keeper.run(1e-3)
            keeper.check()
        used = shown(host)
    with hv.Host("4M", 1) as host:
        assert shown(host) == used


def test_code_in_frames_that_were_anothers() -> None:
    """Translated code is found by the frame that it lies in. A VM that gets memory while it lives may get frames that
    another one, on the same processor, has run code in.
    """
    place, entry = 0x200000, 0x10000
    caller = assemble(f"nop; nop; mov ebx, {place}; call ebx; mov edx, eax; cli; hlt", origin=entry, mode=32).code

    def give(vm: hv.VM, value: int, wanted: int | None = None) -> int:
        """Show a new page with other code, in a certain frame, and say in which."""
        block = vm.add_memory(None, 0x40000, "code")
        for offset in range(0, block.size, 0x1000):
            block.write(offset, assemble(f"mov eax, {value}; ret", origin=place, mode=32).code)
            block.map(place, offset, 0x1000)
            (region,) = vm.memory.within(place, 0x1000)
            frame = frame_of(vm.memory.pages.word(region.base // 0x1000))
            if wanted in (None, frame):
                return frame
            block.unmap()
        raise AssertionError("another frame would have to come")

    with hv.Host("4M", 1) as host, hv.VM(host, hv.MachineConfig(memory="1M", name="staying")) as staying:
        with hv.VM(host, hv.MachineConfig(memory="1M", name="going")) as going:
            for vm in (staying, going):
                prepare(vm, caller, 32, entry, 0x9000)
                vm.vcpu.step()
            first = give(going, 0x1111)
            assert going.run(timeout=5).edx == 0x1111
            staying.vcpu.step()
        give(staying, 0x2222, first)
        assert staying.run(timeout=5).edx == 0x2222


def test_a_machine_where_others_have_worked() -> None:
    """A whole machine's devices, APICs, video memory and processor, before its first instruction and after its last."""

    def shown(vm: hv.VM) -> list[Any]:
        return [
            {name: device.state() for name, device in vm.devices.items()},
            [block.read(0, block.size) for block in vm.blocks],
            vm.memory.read(0, vm.memory.size),
            [dict(vcpu.msr) for vcpu in vm.vcpus],
            vm.console.text,
            vm.events(),
        ]

    def work(host: hv.Host) -> list[Any]:
        with host.create_vm("hello", memory="16M", cpus=2) as vm:
            before = shown(vm)
            assert vm.run(timeout=20).reason is hv.Reason.POWERED_OFF
            return [*before, *shown(vm)]

    with hv.Host("20M", 1) as host:
        expected = work(host)
    with hv.Host("20M", 1) as host:
        for guest in ("apic", "smp", "trapzoo", "hostile"):
            with host.create_vm(guest, memory="16M", cpus=2) as vm:
                vm.run(timeout=20, virtual_timeout=0.05)
                vm.dma.write(0xA0000, b"\xa5" * 0x20000)
        assert work(host) == expected
