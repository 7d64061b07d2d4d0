"""strace, audit and coverage of a real Linux: what they say is what it does, and it does not notice them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import hypervisor as hv
from tests.initramfs import READY

COMMAND_LINE = "acpi=off noapic nolapic console=ttyS0"
SCRIPT = READY + "cat /no/such/file; ls /proc/1/status; echo said; exec poweroff -f\n"
WRITE = re.compile(r'write\([12], "(.*)", 0x[0-9a-f]+\) = \d+$')


def test_a_linux_seen_from_outside(cloud_kernel: Path, initramfs: Callable[[str], Path], tmp_path: Path) -> None:
    calls, table = tmp_path / "calls.txt", tmp_path / "table.txt"
    plugins = [
        ("strace", {"to": str(calls)}), ("audit", {"to": str(table)}), ("coverage", {"to": str(tmp_path / "lcov")}),
    ]  # fmt: skip
    ends = []
    for attached in ([], plugins):
        with hv.boot(
            cloud_kernel, append=COMMAND_LINE, initrd=initramfs(SCRIPT), memory="128M", plugins=attached
        ) as vm:
            result = vm.run(timeout=240)
            ends.append((result.reason, result.message, result.virtual_s, vm.console.bytes))
            assert (len(vm.coverage.blocks) > 10_000) == bool(attached) and vm.coverage.complete
    assert ends[0] == ends[1], "Linux notices that it is looked at"
    console = ends[0][3].decode()

    lines = [line.split(" ", 2)[2] for line in calls.read_text().splitlines()]
    written = "".join(m[1] for line in lines if (m := WRITE.fullmatch(line))).replace("\\n", "\n")
    shown = console[console.index("READY") : console.index("reboot: System halted")].rpartition("[")[0]
    assert written == shown.replace("\r\n", "\n")
    assert 'openat(AT_FDCWD, "/no/such/file", 0x0, 00) = -1 ENOENT' in lines
    assert any(line.startswith('execve("/proc/self/exe", ') for line in lines)
    assert lines[-1].startswith("reboot(0xfee1dead, 0x28121969, ")

    rows = [line.split() for line in table.read_text().splitlines()]
    touched = {(row[0], row[1]): row for row in rows[1:]}
    assert touched["port", "0x3f8"][2] == "uart0" and int(touched["port", "0x3f8"][4]) >= len(ends[0][3])
    assert touched["msr", "0xc0000080"][2].lower() == "efer"
    assert {("cpuid", "0x0"), ("cpuid", "0x40000000"), ("cr", "0x0"), ("cr", "0x3"), ("cr", "0x4")} <= touched.keys()
