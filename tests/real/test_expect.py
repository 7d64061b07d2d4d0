"""A conversation with a shell on Linux's serial console, through vm.serial[0]: expect, send, and again the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import hypervisor as hv

INIT = """#!/bin/busybox sh
export PATH=/bin PS1='$ '
/bin/busybox stty -echo 2>/dev/null
exec /bin/busybox sh
"""
COMMAND_LINE = "acpi=off noapic nolapic quiet console=ttyS0"
PATIENCE_S = 120

Transcript = list[tuple[str, str, float]]


def converse(kernel: Path, initrd: Path) -> Transcript:
    """Every match with the text before it, and when it came."""
    transcript: Transcript = []
    with hv.boot(kernel, memory="128M", initrd=initrd, append=COMMAND_LINE) as vm:

        def expect(regex: str) -> hv.Match:
            found = vm.serial[0].expect(regex, timeout=PATIENCE_S)
            transcript.append((found.before, found.text, vm.clock.now_ns / 1e9))
            return found

        expect(r"\$ ")
        vm.serial[0].send("echo sum $((6*7))\n")
        assert expect(r"sum (\d+)\r\n")[1] == "42"
        expect(r"\$ ")
        vm.serial[0].send(
            "busybox cat /proc/uptime 2>&1; busybox mount -t proc proc /proc; read line; echo got $line\n"
        )
        vm.serial[0].send("typed ahead\n")
        assert "typed ahead" in expect(r"got .*\r\n").text
        expect(r"\$ ")
        with pytest.raises(hv.ExpectError, match="virtual-timeout") as caught:
            vm.serial[0].expect("never", timeout=PATIENCE_S, virtual_timeout=0.5)
        assert "serial port 0 shows 'never'" in str(caught.value)
        vm.serial[0].send("busybox poweroff -f\n")
        vm.run(until="System halted", timeout=PATIENCE_S)
    return transcript


def test_a_conversation_and_its_repetition(cloud_kernel: Path, initramfs: Callable[[str], Path]) -> None:
    first = converse(cloud_kernel, initramfs(INIT))
    assert [text for _, text, _ in first][1] == "sum 42\r\n"
    assert converse(cloud_kernel, initramfs(INIT)) == first
