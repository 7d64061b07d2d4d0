"""A kernel under qemu-system-x86_64.

QEMU ends its process at a debug exit before anybody can look at the screen. So a byte console listens in place of the
device, and keeps what the kernel writes; the kernel then halts. That the device itself is served like this is what the
kernels with a ``status`` show: those get the real one.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.conventions import build
from tests.conventions.outcome import Outcome, exit_status
from tests.conventions.table import Act, Kernel, Medium
from tests.programs import QEMU, program
from tests.qemu_screen import text_of

PATIENCE_S = 60
POLL_S = 0.02
SETTLE_S = 0.05
"""Host time after which a power-off that a halted guest has asked for is known."""
_KEYS = {"enter": "ret", "space": "spc"}
"""QEMU's names of keys, where they differ from ours."""
_HALTED = re.compile(r"[ER]FL=([0-9a-f]+).*HLT=1", re.S)


class Machine:
    """A QEMU that runs a kernel, and its monitor."""

    def __init__(self, kernel: Kernel, medium: Medium, image: Path, out: Path) -> None:
        self._serial, self._debugcon, self._exit = (out / name for name in ("serial", "debugcon", "exit"))
        self._out = out
        self._gone: str | None = None
        options = ["-accel", "tcg", "-M", "pc", "-vga", "std", "-display", "none", "-nic", "none", "-m", "64"]
        options += ["-snapshot", "-no-shutdown", "-no-reboot", "-smp", str(kernel.cpus), "-qmp", "stdio"]
        options += ["-serial", f"file:{self._serial}", "-debugcon", f"file:{self._debugcon}"]
        if kernel.status is None:
            options += [
                "-chardev",
                f"file,id=exit,path={self._exit}",
                "-device",
                "isa-debugcon,iobase=0xf4,chardev=exit",
            ]
        else:
            options += ["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
        options += {
            Medium.FLOPPY: ["-drive", f"file={image},format=raw,if=floppy", "-boot", "a"],
            Medium.DISK: ["-drive", f"file={image},format=raw,if=ide"],
            Medium.CD: ["-cdrom", str(image)],
            Medium.KERNEL: ["-kernel", str(image)],
        }[medium]
        if kernel.drive is not None:
            bus = "floppy" if kernel.drive is Medium.FLOPPY else "ide"
            options += ["-drive", f"file={build.drive(kernel.drive, out)},format=raw,if={bus}"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([program(QEMU), *options], stdin=pipe, stdout=pipe, stderr=pipe)
        self._ask("qmp_capabilities")

    def run(self, kernel: Kernel) -> Outcome:
        """To the end of the kernel."""
        for act in kernel.acts:
            self._wait(lambda act=act: act.after.encode() in self._serial.read_bytes())  # type: ignore[misc]
            self._do(act)
        ending = self._end(kernel)
        picture, screen, colours = None, "", b""
        if self.process.poll() is None:
            dump = self._out / "dump"
            if kernel.picture:
                self._ask("screendump", filename=str(dump))
                _, size, _, pixels = dump.read_bytes().split(b"\n", 3)
                width, height = map(int, size.split())
                picture = width, height, pixels
            else:
                self._ask("pmemsave", val=0xB8000, size=4000, filename=str(dump))
                screen, colours = text_of(dump.read_bytes()), dump.read_bytes()[1::2]
        return Outcome(ending, screen, self._serial.read_bytes(), self._debugcon.read_bytes(), colours, picture)

    def _end(self, kernel: Kernel) -> str:
        if kernel.status is not None:
            return f"exit {self.process.wait(PATIENCE_S)}"
        self._wait(lambda: self._gone is not None or self._halted())
        time.sleep(SETTLE_S)
        self._ask("query-status")
        if self._gone is not None:
            return self._gone
        written = self._exit.read_bytes()
        return exit_status(written[0]) if written else "halted"

    def _halted(self) -> bool:
        """Whether the first CPU sleeps with interrupts off."""
        found = _HALTED.search(self._type("info registers"))
        return found is not None and not int(found[1], 16) & 1 << 9

    def _do(self, act: Act) -> None:
        for key in act.keys:
            self._type(f"sendkey {_KEYS.get(key, key)}")
            time.sleep(0.15)  # sendkey holds a key for 100 ms
        held = False
        for dx, dy, down in act.mouse:
            if (dx, dy) != (0, 0):
                self._type(f"mouse_move {dx} {dy}")
                time.sleep(0.05)
            if down is not held:
                self._type(f"mouse_button {int(down)}")
                time.sleep(0.05)
                held = down

    def _wait(self, holds: Any) -> None:
        end = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > end:
                self._ask("pmemsave", val=0xB8000, size=4000, filename=str(self._out / "dump"))
                text = text_of((self._out / "dump").read_bytes())
                raise AssertionError(
                    f"under QEMU the kernel did not come to its end: {self._serial.read_bytes()!r}\n{text}"
                )
            time.sleep(POLL_S)

    def _type(self, line: str) -> str:
        return str(self._ask("human-monitor-command", **{"command-line": line}))

    def _ask(self, command: str, **arguments: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.process.stdin.flush()
        while line := self.process.stdout.readline():
            answer = json.loads(line)
            if answer.get("event") == "SHUTDOWN":
                self._gone = "power-off" if answer["data"]["reason"] == "guest-shutdown" else "reset"
            assert "error" not in answer, f"{command}: {answer['error']}"
            if "return" in answer:
                return answer["return"]
        assert self.process.stderr is not None
        raise AssertionError(f"QEMU ended: {self.process.stderr.read().decode()}")

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


def run(kernel: Kernel, medium: Medium, image: Path, out: Path) -> Outcome:
    """Boot the image, do what a person does, and look when it has ended."""
    machine = Machine(kernel, medium, image, out)
    try:
        return machine.run(kernel)
    finally:
        machine.close()
