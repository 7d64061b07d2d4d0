"""Debian's cloud kernel with all that it finds by itself: ACPI, APICs and every processor, to userspace and to S5."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from tests.initramfs import READY

HOST_SECONDS = 240.0
COMPLAINTS = (
    "BUG:", "WARNING:", "Oops", "Call Trace", "soft lockup", "detected stalls", "lost interrupt", "Firmware Bug",
    "ACPI Error", "ACPI BIOS Error", "ACPI Warning", "Marking TSC unstable", "timer doesn't work", "not responding",
    "firmware bug",
)  # fmt: skip
WORK = (
    READY
    + """
for n in 1 2 3 4; do
    (seq 1 2000 | while read x; do y=$x; done; mkdir /tmp/$n; echo worker $n: $y) &
done
wait
echo files: /tmp/*
cat /proc/interrupts
exec poweroff -f
"""
)
"""Processes that start others on every processor, map and unmap, and wait for each other."""


def boot(
    kernel: Path, initrd: Path, cpus: int, clock: str = "virtual", append: str = "", like_kvm: bool = False
) -> tuple[str, tuple[object, ...]]:
    """What it said, and what must not differ between two runs."""
    append = f"console=ttyS0 {append}"
    options = {"memory": "128M", "append": append, "initrd": initrd, "cpus": cpus, "clock": clock}
    with closing(hv.boot(kernel, **options)) as vm:
        if like_kvm:
            vm.traps.cpuid(kvm)
        result = vm.run(timeout=HOST_SECONDS)
        text = vm.console.text
    assert result.reason is hv.Reason.POWERED_OFF, f"{result.message}\n{text[-3000:]}"
    return text, (text, result.virtual_s, tuple(sorted(result.exits.items())))


def kvm(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
    """CPUID of a second hypervisor, KVM without features of its own: Linux enters x2APIC mode only under one that it
    knows, as there is no interrupt remapping.
    """
    if exit.leaf != 0x4000_0100:
        return hv.PASS
    exit.eax = 0x4000_0101
    exit.ebx, exit.ecx, exit.edx = (int.from_bytes(part, "little") for part in (b"KVMK", b"VMKV", b"M"))
    return hv.HANDLED


@pytest.fixture(scope="module")
def working(initramfs: Callable[[str], Path]) -> Path:
    return initramfs(WORK)


@pytest.fixture(scope="module")
def once(cloud_kernel: Path, working: Path) -> Callable[[int], tuple[str, tuple[object, ...]]]:
    """`boot` by the virtual clock, on so many processors: the same one for whoever asks."""
    return functools.cache(lambda cpus: boot(cloud_kernel, working, cpus))


def check(text: str, cpus: int) -> None:
    found = [line for line in text.splitlines() if any(complaint in line for complaint in COMPLAINTS)]
    assert not found
    assert f"Brought up 1 node, {cpus} CPU" in text
    assert "ACPI: Using IOAPIC for interrupt routing" in text
    assert "ACPI: PM: Preparing to enter system sleep state S5" in text
    assert "files: /tmp/1 /tmp/2 /tmp/3 /tmp/4" in text
    rows = dict(re.findall(r"^ *(\w+): +(.*)$", text[text.index("files: ") :], re.MULTILINE))
    assert "IO-APIC" in rows["4"] and "ttyS0" in rows["4"]
    assert "IO-APIC" in rows["9"] and "acpi" in rows["9"]
    ticks = [int(number) for number in rows["LOC"].split()[:cpus]]
    assert all(count > 10 for count in ticks), "each processor has its own timer"


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_linux_uses_acpi_and_every_processor_and_powers_off(
    once: Callable[[int], tuple[str, tuple[object, ...]]], cpus: int
) -> None:
    text, _ = once(cpus)
    check(text, cpus)


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_linux_in_x2apic_mode(cloud_kernel: Path, working: Path, cpus: int) -> None:
    text, _ = boot(cloud_kernel, working, cpus, like_kvm=True)
    assert "Switched APIC routing to physical x2apic" in text
    check(text, cpus)


def test_linux_that_is_told_to_leave_x2apic_mode_alone(cloud_kernel: Path, working: Path) -> None:
    text, _ = boot(cloud_kernel, working, 2, append="nox2apic", like_kvm=True)
    assert "x2apic routing" not in text and "physical x2apic" not in text
    check(text, 2)


def test_linux_on_two_processors_repeats(
    cloud_kernel: Path, working: Path, once: Callable[[int], tuple[str, tuple[object, ...]]]
) -> None:
    assert boot(cloud_kernel, working, 2)[1] == once(2)[1]


@pytest.mark.parametrize("cpus", [1, 2])
def test_linux_by_the_wall_clock(cloud_kernel: Path, working: Path, cpus: int) -> None:
    """How the host's time passes decides what Linux says about its clocks, and nothing else."""
    text, _ = boot(cloud_kernel, working, cpus, "wall")
    assert "files: /tmp/1 /tmp/2 /tmp/3 /tmp/4" in text
    assert "Call Trace" not in text
