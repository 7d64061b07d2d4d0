"""Guests that count what they get of a host's processors, and neighbours that take what they can."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypervisor as hv
from tests.core.bare import bare
from tests.core.smp import long_mode

COUNTS = "mov ecx, 1000; work: loop work; inc rbx; jmp 0x10000"
"""RBX counts thousands of rounds."""
INTERRUPTS_OFF = "cli; again: inc rbx; jmp again"
EXITS = "again: out 0x80, al; jmp again"


@contextmanager
def counting(host: hv.Host, shares: Sequence[hv.Share], clock: str = "virtual") -> Iterator[list[hv.VM]]:
    """A guest that computes for each share, while the block goes on."""
    with ExitStack() as stack:
        vms = [stack.enter_context(bare(COUNTS, host=host, clock=clock)) for _ in shares]
        for number, (vm, share) in enumerate(zip(vms, shares, strict=True)):
            vm.name, vm.share = f"vm{number}", share
        yield vms


@contextmanager
def neighbour(host: hv.Host, kind: str) -> Iterator[hv.VM]:
    """One that never gives its pCPU back by itself: ``interrupts off``, ``exit storm``, a handler that ``computes`` or
    ``sleeps`` for longer than a slice.
    """
    with bare(INTERRUPTS_OFF if kind == "interrupts off" else EXITS, host=host) as vm:
        if kind != "interrupts off":

            @vm.traps.port_out(0x80)
            def serve(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
                if kind == "sleeps":
                    time.sleep(0.03)
                end = time.thread_time() + (0.03 if kind == "computes" else 0.0)
                while time.thread_time() < end:
                    pass
                return hv.HANDLED

        vm.start()
        yield vm
        vm.stop()


@contextmanager
def waking(host: hv.Host, sleep_s: Callable[[], float]) -> Iterator[hv.VM]:
    """One that wakes by the wall clock, and has little to do then. ``sleep_s()`` is asked each time for how long it
    sleeps.
    """
    with long_mode(["sti; again: hlt; jmp again"], host, clock="wall") as vm:

        def wake() -> None:
            vm.clock.call_at(vm.clock.now_ns + int(sleep_s() * 1e9), wake)

        vm.input_open = True
        wake()
        yield vm


def computed(vms: Sequence[hv.VM]) -> float:
    """Host seconds that pCPUs have computed for these."""
    return sum(vm.usage.run_s for vm in vms)


def until_computed(vms: Sequence[hv.VM], seconds: float, limit: float) -> None:
    """Wait until pCPUs have computed so long for these; in ``limit`` seconds it is enough anyway."""
    end, goal = time.monotonic() + limit, computed(vms) + seconds
    while computed(vms) < goal and time.monotonic() < end:
        time.sleep(0.01)


@dataclass(frozen=True)
class Got:
    """What VMs have got of a host, each beside what all have together."""

    counted: list[float]
    """By their own counters."""
    used: list[float]
    """By the host's."""
    run_s: float
    """How long pCPUs have computed for all."""
    host_s: float
    """How long that took, by the host's clock."""
    waited_s: list[float]
    """How long each waited for a pCPU."""
    stolen_s: float
    """How long pCPUs' threads wanted processors of the host's, and others had them."""


def at_once(vms: Sequence[hv.VM], what: Callable[[hv.VM], object]) -> None:
    """Do this to all of them, which are of one host, while nobody gets a pCPU or leaves one."""
    vms[0].host.queue.change(lambda allotment: [what(vm) for vm in vms] and None)


def measure(vms: Sequence[hv.VM], seconds: float) -> Got:
    """What these VMs get while pCPUs compute for so long for them: from when all want them until none does. (One that
    is started before the others has a pCPU to itself until this thread has its turn again, on a busy host for long.)
    """
    since = time.monotonic()
    at_once(vms, hv.VM.start)
    until_computed(vms, seconds, 20 * seconds)
    at_once(vms, hv.VM.request_stop)
    host_s = time.monotonic() - since
    for vm in vms:
        result = vm.wait()
        assert result is not None and result.reason is hv.Reason.STOPPED, result
    rounds, usages = [vm.vcpu.rbx for vm in vms], [vm.usage for vm in vms]
    run_s = sum(one.run_s for one in usages)
    return Got(
        counted=[count / sum(rounds) for count in rounds],
        used=[one.run_s / run_s for one in usages],
        run_s=run_s,
        host_s=host_s,
        waited_s=[one.ready_s for one in usages],
        stolen_s=sum(one.stolen_s for one in usages),
    )


def threads_of_pcpus() -> dict[str, tuple[float, float]]:
    """What the kernel says of each pCPU's thread: for how long it computed, and was kept from that; in seconds."""
    found: dict[str, tuple[float, float]] = {}
    for thread in threading.enumerate():
        if thread.name.startswith("hypervisor-pcpu"):
            figures: Any = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()
            found[thread.name] = int(figures[0]) / 1e9, int(figures[1]) / 1e9
    return found


__all__ = [
    "Got",
    "at_once",
    "computed",
    "counting",
    "measure",
    "neighbour",
    "threads_of_pcpus",
    "until_computed",
    "waking",
]
