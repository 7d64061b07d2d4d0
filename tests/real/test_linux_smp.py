"""Debian's 6.1 cloud kernel with several vCPUs: it finds them by ACPI, runs on all of them, and repeats."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from tests.initramfs import READY

MEMORY = "128M"
COMPLAINTS = (
    "BUG:", "WARNING:", "Oops", "Call Trace", "soft lockup", "lost interrupt", "unstable", "rcu_sched",
)  # fmt: skip
# Linux refines the TSC's rate for a second before it trusts "tsc": a boot on an idle host is through before that.
INIT = READY + (
    "echo processors $(/bin/busybox grep -c ^processor /proc/cpuinfo)\n"
    "clocksource() { cat /sys/devices/system/clocksource/clocksource0/current_clocksource; }\n"
    "tries=0; while [ $(clocksource) = tsc-early ] && [ $tries -lt 50 ]; do sleep 0.2; tries=$((tries+1)); done\n"
    "echo clocksource $(clocksource)\n"
    "work() { i=0; while [ $i -lt 300 ]; do i=$((i+1)); done; /bin/true; echo worker $1 done; }\n"
    "for n in 1 2 3 4; do work $n & done\nwait\n"
    "/bin/busybox grep -E 'LOC|RES|CAL|TLB' /proc/interrupts\n"
    "exec poweroff -f\n"
)


@pytest.fixture(scope="module")
def working(initramfs: Callable[[str], Path]) -> Path:
    return initramfs(INIT)


def _boot(host: hv.Host, kernel: Path, initrd: Path, cpus: int, clock: str = "virtual") -> tuple[str, hv.RunResult]:
    with closing(
        host.create_vm(kernel, memory=MEMORY, append="console=ttyS0", initrd=initrd, cpus=cpus, clock=clock)
    ) as vm:
        result = vm.run(timeout=240)
        assert result.reason is hv.Reason.POWERED_OFF, f"{result.message}\n{vm.console.text[-2000:]}"
        return vm.console.text, result


@pytest.fixture(scope="module")
def on_one_pcpu(cloud_kernel: Path, working: Path) -> Callable[[int, str], tuple[str, hv.RunResult]]:
    """`_boot` on a host of its own: the same one for whoever asks."""

    def boot(cpus: int, clock: str) -> tuple[str, hv.RunResult]:
        with closing(hv.Host(memory=MEMORY, cpus=1)) as host:
            return _boot(host, cloud_kernel, working, cpus, clock)

    return functools.cache(boot)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("cpus", [2, 4])
def test_linux_runs_on_every_vcpu_and_powers_off(
    on_one_pcpu: Callable[[int, str], tuple[str, hv.RunResult]], cpus: int, clock: str
) -> None:
    text, _ = on_one_pcpu(cpus, clock)
    assert f"processors {cpus}\r\n" in text
    assert "clocksource tsc\r\n" in text
    assert all(f"worker {n} done" in text for n in (1, 2, 3, 4))
    for complaint in COMPLAINTS:
        assert complaint not in text, text[max(0, text.index(complaint) - 1000) :]
    ticks = next(line for line in text.splitlines() if "LOC:" in line).split()[1 : 1 + cpus]
    assert all(int(count) > 10 for count in ticks), ticks  # each has had its own timer's interrupts


def test_two_boots_on_four_vcpus_are_the_same(
    cloud_kernel: Path, working: Path, on_one_pcpu: Callable[[int, str], tuple[str, hv.RunResult]]
) -> None:
    with closing(hv.Host(memory=MEMORY, cpus=2)) as host:
        boots = on_one_pcpu(4, "virtual"), _boot(host, cloud_kernel, working, 4)
    first, second = ((text, dict(result.exits), result.virtual_s) for text, result in boots)
    assert first == second
