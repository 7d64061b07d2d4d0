"""What a machine under qemu-system-x86_64 shows on its text screen, asked through QMP while it runs."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypervisor.arch.font import CP437
from tests.programs import QEMU, program

SECONDS = 60.0
"""Host time after which a machine that does not show what is awaited is given up."""


def text_of(memory: bytes) -> str:
    """The 80 by 25 screen in the bytes at b8000h, rows joined by newlines and right-stripped."""
    rows = (memory[at : at + 160 : 2] for at in range(0, 4000, 160))
    return "\n".join("".join(CP437[byte] for byte in row).rstrip() for row in rows).rstrip()


def screen_under_qemu(
    options: Sequence[str], until: Callable[[str], bool], directory: Path, seconds: float = SECONDS
) -> str:
    """Run QEMU's PC with these options until its screen satisfies ``until``; returns the screen."""
    dump = directory / "screen.bin"
    command = [program(QEMU), "-accel", "tcg", "-M", "pc", "-display", "none", "-nic", "none"]
    command += ["-no-shutdown", "-no-reboot", "-qmp", "stdio", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            ask(process, "qmp_capabilities")
            end = time.monotonic() + seconds
            while True:
                ask(process, "pmemsave", val=0xB8000, size=4000, filename=str(dump))
                text = text_of(dump.read_bytes())
                if until(text):
                    return text
                assert time.monotonic() < end, f"QEMU did not show what was awaited, but:\n{text}"
                time.sleep(0.2)
        finally:
            process.kill()


def ask(process: subprocess.Popen[bytes], command: str, **arguments: Any) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    process.stdin.flush()
    while line := process.stdout.readline():
        answer = json.loads(line)
        assert "error" not in answer, f"{command}: {answer['error']}"
        if "return" in answer:
            return
    raise AssertionError(f"QEMU ended: {process.stderr.read().decode() if process.stderr else ''}")
