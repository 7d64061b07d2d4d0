"""Debian's 6.1 cloud kernel, an unmodified bzImage, boots to a busybox userspace, and does so the same way every time.

The number of repetitions is 2, and 20 in the long form; ``ROOTMODE_RUNS`` sets it for both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import hypervisor as hv
from tests.initramfs import POWER_OFF, RESET, SLEEP

COMMAND_LINE = "acpi=off noapic nolapic console=ttyS0"
MEMORY = "128M"
HOST_SECONDS = 120.0
# With an end of its own, should nobody be left to kill it.
SPIN = "import time\nend = time.monotonic() + 3600\nwhile time.monotonic() < end: pass"


@dataclass(frozen=True)
class Boot:
    """What must not differ between two boots with the virtual clock."""

    console: bytes
    exits: tuple[tuple[str, int], ...]
    virtual_s: float


def runs(otherwise: int) -> int:
    return int(os.environ.get("ROOTMODE_RUNS", otherwise))


def boot_to_ready(host: hv.Host, kernel: Path, initrd: Path, clock: str = "virtual") -> Boot:
    vm = host.create_vm(image=kernel, memory=MEMORY, append=COMMAND_LINE, initrd=initrd, clock=clock)
    with closing(vm):
        result = vm.run(until="READY", timeout=HOST_SECONDS)
        assert result.reason is hv.Reason.UNTIL, f"{result.message}\n{vm.console.text[-2000:]}"
        exits = tuple(sorted((str(kind), count) for kind, count in result.exits.items()))
        return Boot(vm.console.bytes, exits, result.virtual_s)


@contextmanager
def load_on_every_cpu() -> Iterator[None]:
    """One process for each CPU of this machine that does nothing but compute."""
    spinners = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


@pytest.fixture(scope="module")
def sleeping(initramfs: Callable[[str], Path]) -> Path:
    return initramfs(SLEEP)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_linux_reaches_userspace(cloud_kernel: Path, sleeping: Path, clock: str) -> None:
    with closing(hv.Host(memory="256M", cpus=1)) as host:
        console = boot_to_ready(host, cloud_kernel, sleeping, clock).console
    assert b"Linux version 6.1." in console
    assert b"Run /init as init process" in console
    for complaint in (b"BUG:", b"WARNING:", b"Oops", b"Call Trace", b"soft lockup", b"lost interrupt"):
        assert complaint not in console


def test_linux_starts_in_its_own_real_mode_code(cloud_kernel: Path, initramfs: Callable[[str], Path]) -> None:
    """The 16-bit entry: the kernel asks the BIOS for memory, sets its video mode, and switches modes itself."""
    append = "console=ttyS0 vga=0x311"
    with closing(hv.boot(cloud_kernel, append=append, initrd=initramfs(POWER_OFF), memory=MEMORY)) as vm:
        result = vm.run(timeout=HOST_SECONDS)
        text, mode = vm.serial[0].text, str(vm.screen.mode)
    assert result.reason is hv.Reason.POWERED_OFF, result.message
    assert "BIOS-e820: [mem 0x0000000000100000-0x0000000007ffffff] usable" in text
    assert "READY" in text
    assert mode == "640x480x16"


def test_linux_halts_when_it_cannot_power_off(cloud_kernel: Path, initramfs: Callable[[str], Path]) -> None:
    # Without ACPI there is no way to power off: Linux halts the CPU with interrupts off.
    with closing(hv.boot(cloud_kernel, append=COMMAND_LINE, initrd=initramfs(POWER_OFF), memory=MEMORY)) as vm:
        result = vm.run(timeout=HOST_SECONDS)
        assert "System halted" in vm.console.text
    assert result.reason is hv.Reason.HALTED, result.message


def test_linux_resets_through_the_keyboard_controller(cloud_kernel: Path, initramfs: Callable[[str], Path]) -> None:
    append = f"{COMMAND_LINE} reboot=k"
    with closing(hv.boot(cloud_kernel, append=append, initrd=initramfs(RESET), memory=MEMORY)) as vm:
        result = vm.run(timeout=HOST_SECONDS)
        assert "READY" in vm.console.text
    assert result.reason is hv.Reason.RESET, result.message


def assert_same(boots: list[Boot]) -> None:
    first = boots[0]
    for number, other in enumerate(boots[1:], start=2):
        assert other.console == first.console, f"boot {number} printed something else"
        assert other.exits == first.exits, f"boot {number} had other exits"
        assert other.virtual_s == first.virtual_s, f"boot {number} took another virtual time"


def test_two_boots_are_the_same(cloud_kernel: Path, sleeping: Path) -> None:
    boots = []
    for number in range(runs(2)):
        with closing(hv.Host(memory="256M", cpus=1 + number % 2)) as host:
            boots.append(boot_to_ready(host, cloud_kernel, sleeping))
    assert_same(boots)


@pytest.mark.stress
@pytest.mark.parametrize("loaded", [False, True], ids=["quiet", "loaded"])
@pytest.mark.parametrize("cpus", [1, 2])
def test_twenty_boots_are_the_same(cloud_kernel: Path, sleeping: Path, cpus: int, loaded: bool) -> None:
    with closing(hv.Host(memory="256M", cpus=1)) as host:
        boots = [boot_to_ready(host, cloud_kernel, sleeping)]  # the yardstick: one pCPU, no load
    if loaded:
        with load_on_every_cpu():
            boots += _boots(cloud_kernel, sleeping, cpus)
    else:
        boots += _boots(cloud_kernel, sleeping, cpus)
    assert_same(boots)


def _boots(kernel: Path, initrd: Path, cpus: int) -> list[Boot]:
    with closing(hv.Host(memory="256M", cpus=cpus)) as host:
        return [boot_to_ready(host, kernel, initrd) for _ in range(runs(20))]
