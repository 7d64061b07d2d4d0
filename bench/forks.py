"""Figures of machines as values: a Linux guest that waits at a shell, forked and put back. Each runs in a process of
its own, for `bench.process`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import hypervisor as hv
from bench.process import TIMEOUT_S, private_bytes
from tests.debian import debian_path, kernel_package
from tests.initramfs import READY, initramfs

MANY, DIRTY = 200, 40
"""Machines that are made in a row, and frames that a guest has stored to when it is put back."""


@contextmanager
def at_a_shell() -> Iterator[tuple[hv.VM, hv.Snapshot]]:
    """Debian's kernel with 256 MiB, at a busybox shell."""
    archive = initramfs(READY + "exec sh\n", debian_path("busybox-static", "bin/busybox").read_bytes())
    kernel = str(debian_path(kernel_package(), "boot/vmlinuz-*"))
    with hv.boot(kernel, initrd=archive, append="console=ttyS0", memory="256M") as vm:
        vm.run(until="READY", timeout=TIMEOUT_S)
        vm.run(until="# ", timeout=TIMEOUT_S)
        with vm.snapshot() as snapshot:
            yield vm, snapshot


def _median(measure: Callable[[], float], count: int) -> float:
    return sorted(measure() for _ in range(count))[count // 2]


def fork(image: Path) -> float:
    """Milliseconds until a fork may run."""

    def once() -> float:
        start = time.perf_counter()
        with snapshot.fork():
            return time.perf_counter() - start

    with at_a_shell() as (_, snapshot):
        return _median(once, MANY) * 1e3


def fork_to_exit(image: Path) -> float:
    """Milliseconds until the first exit of a fork has been served."""

    def once() -> float:
        start = time.perf_counter()
        with snapshot.fork() as fork:
            fork.run(until=lambda: True, timeout=TIMEOUT_S)
            return time.perf_counter() - start

    with at_a_shell() as (_, snapshot):
        return _median(once, MANY) * 1e3


def forks_in_a_row(image: Path) -> float:
    """Milliseconds for each of many forks that run to their first exit and are closed, all that belongs to it."""
    with at_a_shell() as (_, snapshot):
        start = time.perf_counter()
        for _ in range(MANY):
            with snapshot.fork() as fork:
                fork.run(until=lambda: True, timeout=TIMEOUT_S)
        return (time.perf_counter() - start) / MANY * 1e3


def revert(image: Path) -> float:
    """Microseconds to put the guest back after a run in which frames were stored to."""

    def once() -> float:
        vm.run(until=lambda: True, timeout=TIMEOUT_S)
        for n in range(DIRTY):
            vm.memory.write(first + 4096 * n, b"dirty")
        start = time.perf_counter()
        assert vm.revert(snapshot) >= DIRTY
        return time.perf_counter() - start

    with at_a_shell() as (vm, snapshot):
        first = vm.memory.size // 2
        return _median(once, MANY) * 1e6


def idle_fork(image: Path) -> float:
    """MiB of host memory that one more fork takes before it runs."""
    with at_a_shell() as (_, snapshot), ExitStack() as stack:
        stack.enter_context(snapshot.fork())
        before = private_bytes()
        for _ in range(MANY):
            stack.enter_context(snapshot.fork())
        return (private_bytes() - before) / MANY / 2**20
