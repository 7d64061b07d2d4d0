"""Memtest86+ 6.10 from its Debian package, unmodified: it computes on every byte of memory with its own page tables.

Tests 0 to 9 are done when its screen, which it sends to the serial port, names test 10 (the bit fade test, two pauses
of 80 seconds, which we do not wait for). It writes the screen only every two seconds of its own time, so that the short
tests do not all show. Under qemu-system-x86_64 with TCG this takes 7 s in 8 MiB and about 40 s in 64 MiB.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from tests.real.screen import Screen

OPTIONS = "nobench nosm nopause console=ttyS0,115200"
BIT_FADE = "#10 [Bit fade test"
LONG = pytest.mark.stress


def _until_bit_fade(image: Path, memory: str, options: str, timeout: float, cpus: int = 1) -> Screen:
    """The screen when test 10 has begun."""
    with closing(hv.boot(image, memory=memory, append=options, cpus=cpus)) as vm:
        result = vm.run(until=BIT_FADE, timeout=timeout)
        # The line with the error count comes behind the line that ended the run.
        if result.reason is hv.Reason.UNTIL:
            seen = len(vm.console.text)
            result = vm.run(until=lambda: "Errors:" in vm.console.text[seen:], timeout=60)
        screen = Screen().feed(vm.console.text)
    assert result.reason is hv.Reason.UNTIL, f"{result.message}\n{screen.text}"
    assert "Memtest86+ v6.10" in screen.lines[0]
    assert re.search(r"Pass:\s+0\s+Errors: 0$", screen.lines[8]), screen.text
    assert BIT_FADE in screen.lines[3]
    return screen


@pytest.mark.parametrize("memory", ["8M", pytest.param("64M", marks=LONG)])
@pytest.mark.parametrize("build", ["ia32", "x64"])
def test_tests_0_to_9_find_no_errors(debian_file: Callable[[str, str], Path], build: str, memory: str) -> None:
    image = debian_file("memtest86+", f"boot/memtest86+{build}.bin")
    screen = _until_bit_fade(image, memory, OPTIONS, 180 if memory == "8M" else 1200)
    assert screen.lines[24].endswith("6.10.unknown.x64" if build == "x64" else "6.10.unknown.x32")


@pytest.mark.parametrize("cpus", [2, pytest.param(8, marks=LONG)])
def test_all_vcpus_test_at_once(debian_file: Callable[[str, str], Path], cpus: int) -> None:
    """It starts them by INIT and startup IPIs, wakes them from HLT by NMIs, and lets all of them test."""
    image = debian_file("memtest86+", "boot/memtest86+x64.bin")
    screen = _until_bit_fade(image, "8M", OPTIONS.replace("nosmp ", ""), 180, cpus)
    assert f"CPU: {cpus} Cores {cpus} Threads    SMP: {cpus}T (PAR)" in screen.lines[7], screen.text
