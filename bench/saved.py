"""Figures of machines in files: a Linux guest that waits at a shell, saved and opened. Each runs in a process of its
own, for `bench.process`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import hypervisor as hv
from bench.process import TIMEOUT_S, ProcessError
from tests.debian import debian_path, kernel_package
from tests.initramfs import READY, initramfs

COMMAND_LINE, MEMORY = "console=ttyS0", "256M"
OPEN = """
import sys, time
start = time.perf_counter()
import hypervisor
vm = hypervisor.boot(sys.argv[1])
vm.run(virtual_timeout=1e-6)
print(time.perf_counter() - start)
"""


def shell(folder: Path) -> tuple[Path, Path]:
    """Kernel and initrd of the guest; the latter is put into ``folder``."""
    initrd = folder / "shell.cpio"
    if not initrd.exists():
        initrd.write_bytes(initramfs(READY + "exec sh\n", debian_path("busybox-static", "bin/busybox").read_bytes()))
    return debian_path(kernel_package(), "boot/vmlinuz-*"), initrd


def save_linux(image: Path) -> float:
    """Seconds to save the guest, in the process that runs it. The file stays beside the image."""
    kernel, initrd = shell(image.parent)
    with hv.boot(str(kernel), initrd=str(initrd), append=COMMAND_LINE, memory=MEMORY) as vm:
        vm.run(until="READY", timeout=TIMEOUT_S)
        vm.run(until="# ", timeout=TIMEOUT_S)
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            vm.save(image.with_name("linux.hvs"))
            seconds.append(time.perf_counter() - start)
    return sorted(seconds)[1]


def open_linux(image: Path) -> float:
    """Seconds from the first line of a fresh process to the first instructions of that guest."""
    saved = image.with_name("linux.hvs")
    if not saved.exists():
        save_linux(image)
    # An installed package has its bytecode on disk.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", OPEN, str(saved)], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ProcessError(f"the process ended with status {done.returncode}: {done.stderr[-300:]}")
    return float(done.stdout)
