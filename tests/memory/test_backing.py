"""Memory of the system that frames have before they are filled: how much is theirs, and that nothing else changes."""

from __future__ import annotations

import ctypes
import mmap
import threading

import hypervisor as hv
from hypervisor.memory.backing import backed
from hypervisor.units import MIB, PAGE_SIZE


def _resident(memory_address: int, pages: int) -> int:
    """How many pages have memory of the system; source: mincore(2)."""
    told = (ctypes.c_ubyte * pages)()
    size = ctypes.c_size_t(pages * PAGE_SIZE)
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(memory_address), size, told) == 0
    return sum(one & 1 for one in told)


def test_the_next_frames_are_backed_and_no_others_are() -> None:
    with hv.Host("64M") as host, host.create_vm(memory="32M") as vm:
        memory = host.memory
        following = memory.next_frames(16 * MIB)
        assert len(following) == 16 * MIB and following.start % mmap.PAGESIZE == 0
        before = _resident(following.start, 32 * MIB // PAGE_SIZE)
        used = memory.used
        with backed(memory, 16 * MIB // PAGE_SIZE):
            for thread in [one for one in threading.enumerate() if one.name == "hypervisor-backing"]:
                thread.join()
        assert before == 0
        assert _resident(following.start, 32 * MIB // PAGE_SIZE) == 16 * MIB // PAGE_SIZE
        assert memory.used == used, "nobody has them yet"
        vm.memory.write(0x100000, b"\x5a" * (4 * MIB))
        assert memory.used > used + 3 * MIB
        assert vm.memory.read(0x100000, 4 * MIB) == b"\x5a" * (4 * MIB)
        assert vm.memory.read(0x600000, PAGE_SIZE) == bytes(PAGE_SIZE)


def test_no_more_than_there_is_and_none_while_frames_are_free() -> None:
    with hv.Host("16M") as host:
        memory = host.memory
        assert memory.address <= memory.next_frames(1 << 60).stop <= memory.address + memory.slots
        assert not memory.next_frames(0)
        with host.create_vm(memory="8M") as vm:
            vm.memory.write(MIB, b"\x5a" * (4 * MIB))
        assert not memory.next_frames(MIB), "what the closed VM had comes first"


def test_an_error_ends_it_and_no_thread_is_left() -> None:
    with hv.Host("256M") as host:
        try:
            with backed(host.memory, 200 * MIB // PAGE_SIZE):
                raise ValueError
        except ValueError:
            pass
        assert "hypervisor-backing" not in {thread.name for thread in threading.enumerate()}
