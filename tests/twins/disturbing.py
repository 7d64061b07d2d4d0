"""What a busy host does to a machine: neighbours want its pCPU, it moves, is kicked, paused and stopped at random."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from random import Random

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.run.sharing import scheduler
from tests.meanwhile import again_and_again

STOPPED = "disturbed"
"""What a run says that was stopped for nothing: it is begun again."""
AT = 0x10000
NEIGHBOUR = "again: inc dword ptr [0x20000]; mov ecx, 500; work: loop work; jmp again"


@contextmanager
def busy_host(neighbours: int = 2) -> Iterator[hv.Host]:
    """A host with two pCPUs in short slices, and machines that compute on them."""
    code, before = assemble(NEIGHBOUR, origin=AT, mode=32).code, scheduler.SLICE_S
    scheduler.SLICE_S = 0.0005
    try:
        with closing(hv.Host("512M", 2)) as host, ExitStack() as stack:
            for _ in range(neighbours):
                vm = stack.enter_context(host.create_vm(code, memory="1M", format="flat", mode=32, at=AT))
                vm.start()
            yield host
    finally:
        scheduler.SLICE_S = before


@contextmanager
def disturbing(vm: hv.VM, rng: Random) -> Iterator[None]:
    """During the block somebody pauses, kicks and stops the machine at random moments, and looks into its memory."""

    def pause() -> None:
        with vm.paused():
            time.sleep(rng.random() * 0.001)

    known = (
        pause,
        vm.look,
        lambda: vm.request_stop(STOPPED),
        lambda: vm.memory.read(0, 16),
    )
    with again_and_again(lambda: rng.choice(known)(), 0.0015, rng):
        yield


__all__ = ["STOPPED", "busy_host", "disturbing"]
