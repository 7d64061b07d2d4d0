"""A report in the log of a real Linux, with what its printk puts around each line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hypervisor as hv
from hypervisor.testing.guest_tests.expectation import Expectation
from hypervisor.testing.guest_tests.guest_outcome import run_guest_tests
from tests.guest_tests.test_tap import F, P, S, told
from tests.initramfs import READY

REPORT = """\
KTAP version 1
1..2
    KTAP version 1
    # Subtest: mounts
    1..2
    ok 1 proc
    # sys: EXPECTATION FAILED at mounts.c:7
    not ok 2 sys
not ok 1 mounts
ok 2 network # SKIP no card
"""
COMMAND_LINE = "acpi=off noapic nolapic console=ttyS0 printk.devkmsg=on printk.time=1"


def test_a_report_in_the_log_of_linux(cloud_kernel: Path, initramfs: Callable[[str], Path]) -> None:
    says = "".join(f"echo '<4>{line}' > /dev/kmsg\necho between\n" for line in REPORT.splitlines())
    script = f"{READY}{says}exec sleep 1000000\n"
    with hv.boot(cloud_kernel, append=COMMAND_LINE, initrd=initramfs(script), memory="128M") as vm:
        found = run_guest_tests(vm, Expectation(virtual_timeout=10))
        assert "] KTAP version 1" in vm.console.text and "between" in vm.console.text
    assert told(found.results) == [("mounts.proc", P), ("mounts.sys", F), ("network", S)] and not found.problem
    assert "EXPECTATION FAILED at mounts.c:7" in found["mounts.sys"].log and found["network"].reason == "no card"
