"""Several VMs at once on two pCPUs, beside as many one after the other, or beside processes of their own.

All figures are ratios of host time, the median of pairs that were taken one after the other.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.handlers import ATTACH

PAIRS: Final = 5
PCPUS: Final = 2
TIMEOUT_S: Final = 300.0
INTEGER, CPUID = 9, 12
"""Tests of micro.asm."""
ROUNDS: Final = {INTEGER: 400_000_000, CPUID: 400_000}
LINUXES: Final = 4


def _guests(image: Path, count: int, test: int, handler: str) -> float:
    """Seconds of so many VMs on a new host's pCPUs, from the start of the first to the end of the last."""
    import hypervisor as hv

    with hv.Host(memory="1G", cpus=PCPUS) as host, ExitStack() as stack:
        vms = []
        for _ in range(count):
            vm = host.create_vm(image=str(image), memory="16M", append=f"{test} {ROUNDS[test]}")
            vms.append(stack.enter_context(vm))
            ATTACH[handler](vm)
        start = time.perf_counter()
        for vm in vms:
            vm.start(timeout=TIMEOUT_S)
        ends = [vm.wait() for vm in vms]
        seconds = time.perf_counter() - start
        assert all(end is not None and end.reason is hv.Reason.DEBUG_EXIT for end in ends), ends
        return seconds


def _median(together: Callable[[], float], beside: Callable[[], float]) -> float:
    together()
    return statistics.median(together() / beside() for _ in range(PAIRS))


def in_python(image: Path) -> float:
    """Two VMs whose exits Python serves, by one after the other."""
    return _median(
        lambda: _guests(image, 2, CPUID, "python cpuid"),
        lambda: sum(_guests(image, 1, CPUID, "python cpuid") for _ in range(2)),
    )


def computing(image: Path) -> float:
    """Two VMs that compute, by two processes with one each."""
    return _median(lambda: _guests(image, 2, INTEGER, ""), lambda: _in_processes(image))


def eight(image: Path) -> float:
    """Eight VMs that compute, by two processes with one each: a pCPU alone may be faster than two at once."""
    return _median(lambda: _guests(image, 8, INTEGER, ""), lambda: _in_processes(image))


def _in_processes(image: Path) -> float:
    """Seconds of two processes with a VM each, as `_guests`."""
    program = (
        "import pathlib, sys; from bench import together; image = pathlib.Path(sys.argv[1]);"
        "import hypervisor; hypervisor.run_asm('hlt'); print(flush=True); sys.stdin.readline();"
        f"together._guests(image, 1, {INTEGER}, ''); print(flush=True)"
    )
    command, root = [sys.executable, "-c", program, str(image)], Path(__file__).parent.parent
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(2)
        ]

        def each() -> None:
            for process in processes:
                assert process.stdout is not None and process.stdout.readline() == b"\n"

        each()
        start = time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        each()
        return time.perf_counter() - start


def linuxes(image: Path) -> float:
    """Four boots of Linux at once, by one at a time."""
    import hypervisor as hv
    from bench.measure import LINUX_COMMAND_LINE, LINUX_MEMORY
    from tests import debian
    from tests.initramfs import RESET, initramfs

    kernel = debian.debian_path(debian.kernel_package(), "boot/vmlinuz-*")
    with hv.Host(memory="1G", cpus=PCPUS) as host, tempfile.TemporaryDirectory(prefix="rootmode-bench-") as folder:
        initrd = Path(folder) / "initrd.cpio"
        initrd.write_bytes(initramfs(RESET, debian.debian_path("busybox-static", "bin/busybox").read_bytes()))

        def boots(count: int) -> float:
            with ExitStack() as stack:
                vms = [
                    stack.enter_context(
                        host.create_vm(str(kernel), initrd=str(initrd), append=LINUX_COMMAND_LINE, memory=LINUX_MEMORY)
                    )
                    for _ in range(count)
                ]
                start = time.perf_counter()
                for vm in vms:
                    vm.start(timeout=TIMEOUT_S)
                for vm in vms:
                    vm.wait()
                seconds = time.perf_counter() - start
                assert all("READY" in vm.console.text for vm in vms)
                return seconds

        return _median(lambda: boots(LINUXES), lambda: sum(boots(1) for _ in range(LINUXES)))
