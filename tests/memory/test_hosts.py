"""Many VMs on one host, and what one of them costs it."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import pytest

import hypervisor as hv
from tests.memory.maps import census
from tests.memory.moving import Crowd


def _many(count: int) -> None:
    """All of them at once: each runs, and has what it alone has stored."""
    with hv.Host(16 * count << 20) as host, ExitStack() as stack:
        vms = [stack.enter_context(host.create_vm("hello", memory="16M")) for _ in range(count)]
        for number, vm in enumerate(vms):
            vm.memory.write(0x800000, number.to_bytes(4, "little") * 1024)
        for vm in vms:
            assert vm.run(timeout=60).reason is hv.Reason.POWERED_OFF
        for number, vm in enumerate(vms):
            assert vm.memory.read(0x800000, 4096) == number.to_bytes(4, "little") * 1024
        census(host.memory, [vm.memory.pages for vm in vms])
        assert host.memory.used < 700 * 1024 * count


def test_many_vms_at_once() -> None:
    _many(40)


@pytest.mark.stress
def test_five_hundred_vms_at_once() -> None:
    _many(500)


def test_moving() -> None:
    """See `tests.memory.moving`: with a move that forgets, the code of each slice would be made again."""
    crowd = Crowd()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        code, expected = crowd.work(4)
    finally:
        sys.setswitchinterval(interval)
    assert crowd.came > 1 and crowd.moves > 10
    assert code <= 1.2 * expected


def test_moving_while_frames_are_merged() -> None:
    Crowd().work(3, sharing=True)


def test_memory_is_taken_when_it_is_stored_to() -> None:
    with hv.Host("64M") as host, host.create_vm(memory="64M") as vm:
        before = vm.host_memory_bytes
        vm.memory.write(0x1000000, bytes(1 << 20))
        assert vm.memory.read(0x1000000, 32 << 20) == bytes(32 << 20)
        assert vm.host_memory_bytes == before
        vm.memory.write(0x1000800, b"\1" * 4096)
        assert vm.host_memory_bytes == before + 2 * 4096
        block = vm.add_memory(None, 1 << 20)
        block.write(0x5000, b"\1" * 0x3000)
        assert block.resident_bytes == 0x3000
        block.zero(0x6000)
        assert block.resident_bytes == 0x2000 and block.read(0x5000, 0x1001) == bytes(0x1000) + b"\1"
        vm.add_memory(0x1000000, 0x1000).close()
        census(host.memory, [vm.memory.pages])
