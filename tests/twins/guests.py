"""The guests of the twin runs: those that are shipped, and Debian's kernel."""

from __future__ import annotations

from pathlib import Path

import hypervisor as hv
from hypervisor.guests import names
from tests.debian import debian_path, kernel_package
from tests.initramfs import POWER_OFF, initramfs
from tests.twins.runs import Guest


def shipped() -> dict[str, Guest]:
    """Every guest of the package, on one vCPU; the one for several on two and four, too."""
    found = {name: Guest({"image": name}) for name in names()}
    found |= {f"smp {cpus}": Guest({"image": "smp", "cpus": cpus}) for cpus in (2, 4)}
    return found


def linux(folder: Path, cpus: int, work: str = POWER_OFF) -> Guest:
    """Debian's kernel with a busybox. Its files are put into ``folder``."""
    archive = folder / "initrd"
    archive.write_bytes(initramfs(work, debian_path("busybox-static", "bin/busybox").read_bytes()))
    return Guest(
        {
            "image": str(debian_path(kernel_package(), "boot/vmlinuz-*")), "initrd": str(archive), "cpus": cpus,
            "append": "console=ttyS0", "memory": "128M",
        }
    )  # fmt: skip


def person(vm: hv.VM) -> None:
    """Somebody types and moves the mouse before the guest listens: it all waits."""
    vm.keyboard.type("hello, world\n")
    vm.serial[0].send("echo typed at the line\n" * 5)
    vm.mouse.move(5, -3)
    vm.mouse.click()
