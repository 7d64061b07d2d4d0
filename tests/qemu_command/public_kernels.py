"""Public kernels by their own run lines, under QEMU and here.

``python -m tests.qemu_command.public_kernels NAME FOLDER``:
``FOLDER`` is where the kernel was built from its sources; docs/tried.md says which, and how. Nothing is fetched.
The line is the kernel's own word by word, behind it no window and a QMP socket, through which keys are typed and the
screen is read. Status 0: text screen, picture, serial port and exit status are the same; 1: they differ, and how; 2:
no such kernel. A picture of the text mode is not compared: the fonts are two, and the text says it. Nor is what SeaBIOS
writes up to "Booting from", and what the programs themselves say. ``bare:IMAGE`` is one of x86-bare-metal-examples.
"""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any, NamedTuple

from tests.programs import program
from tests.qemu_command.programs import OURS, ROOT

SETTLED_S = 3.0
"""How long a screen must stand still before it is compared."""
PATIENCE_S = 40.0
TEXT_MODE = b"P6\n720 400\n"
"""How its pictures begin."""
STILL = "still"
"""Among keys: wait until the screen stands still again."""


class Kernel(NamedTuple):
    """A kernel's run line, and what is typed when its screen stands still."""

    line: str
    keys: str = ""


BARE, BARE_LINE = "bare:", "qemu-system-i386 -drive 'file={}.img,format=raw' -serial mon:stdio -smp 2"
"""The line of x86-bare-metal-examples, without the sound that QEMU had by ``-soundhw``."""
FIRMWARE_ENDS = "Booting from"
KERNELS = {
    "aenix": Kernel("qemu-system-i386 -cdrom aenix.iso", "l s ret"),
    "basekernel": Kernel(
        "qemu-system-i386 -cdrom basekernel.iso -hda disk.img",
        "a u t o m o u n t ret still l i s t spc slash b i n ret",
    ),
    "bootos": Kernel("qemu-system-i386 -fda os.img", "f o r m a t ret still d i r ret"),
    "jamesm": Kernel("qemu-system-i386 -kernel kernel -initrd initialRamDisk.img"),
    "lk": Kernel("qemu-system-i386 -machine pc -cpu max -m 512 -kernel lk.elf -nographic"),
    "mkeykernel": Kernel("qemu-system-i386 -kernel kernel", "h e l l o"),
    "mikeos": Kernel("qemu-system-i386 -fda mikeos.flp", "ret still ret"),
    "os-tutorial": Kernel("qemu-system-i386 -fda os-image.bin", "p a g e ret"),
    "pritamzope-idt": Kernel("qemu-system-x86_64 -cdrom Interrupt_Descriptor_Table_OS.iso", "ret"),
    "pritamzope-tic-tac-toe": Kernel("qemu-system-x86_64 -cdrom TicTacToe.iso", "ret still down right ret"),
    "wyoos": Kernel("qemu-system-i386 -cdrom mykernel.iso", "a b"),
}


class Seen(NamedTuple):
    """What one of the two showed."""

    text: list[str]
    picture: bytes
    output: str
    status: int | str


class Qmp:
    """The few commands that are needed here, over a Unix socket. Raises `OSError` when the machine has ended."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        end_at = time.monotonic() + PATIENCE_S
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                self._socket.close()
                if time.monotonic() > end_at or process.poll() is not None:
                    raise
                time.sleep(0.1)
        self._socket.settimeout(PATIENCE_S)
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> Any:
        """What a command returns; events are passed over."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while line := self._file.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise ConnectionError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]
        raise ConnectionError("the machine has ended")

    def monitor(self, line: str) -> str:
        """What the monitor prints."""
        return str(self.ask("human-monitor-command", **{"command-line": line}))


def text_screen(qmp: Qmp) -> list[str]:
    """The characters of the text mode's 25 rows."""
    values = qmp.monitor("xp /2000xh 0xb8000").split("\n")
    cells = [int(word, 16) & 0xFF for line in values for word in line.partition(":")[2].split()]
    shown = bytes(cells).decode("cp437").replace("\0", " ")
    return [shown[at : at + 80].rstrip() for at in range(0, 2000, 80)]


def run(words: Sequence[str], kernel: Kernel, folder: Path) -> Seen:
    """Start it, type its keys, and read what it shows."""
    with tempfile.TemporaryDirectory() as scratch:
        path, picture, said = (Path(scratch) / name for name in ("qmp", "picture.ppm", "said"))
        added = ["-display", "none", "-snapshot", "-qmp", f"unix:{path},server,nowait"]
        with said.open("wb") as output:
            process = subprocess.Popen(
                [*words, *added],
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(Path.home())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        text: list[str] = []
        try:
            qmp = Qmp(path, process)
            text = _settled(qmp, said)
            for key in kernel.keys.split():
                if key == STILL:
                    _settled(qmp, said)
                else:
                    qmp.monitor(f"sendkey {key}")
                    time.sleep(0.3)
            text = _settled(qmp, said)
            qmp.ask("screendump", filename=str(picture))
            qmp.ask("quit")
        except (OSError, ValueError) as error:
            text.append(f"[{error}]")
        finally:
            try:
                status: int | str = process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                status = "it did not end"
        pixels = picture.read_bytes() if picture.exists() else b""
        return Seen(text, pixels, said.read_text("utf-8", "replace").replace("\r", ""), status)


def _settled(qmp: Qmp, said: Path) -> list[str]:
    """The screen, once it and the output have stood still for `SETTLED_S`, or at the end of all patience."""
    end_at = time.monotonic() + PATIENCE_S
    last: tuple[list[str], int] = ([], -1)
    since = time.monotonic()
    while time.monotonic() < end_at:
        now = (text_screen(qmp), said.stat().st_size)
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > SETTLED_S:
            break
        time.sleep(0.5)
    return last[0]


def _of_the_kernel(seen: Seen) -> Seen:
    rows, said = seen.text, seen.output.split("\n")
    for number, row in enumerate(seen.text):
        if row.startswith(FIRMWARE_ENDS):
            rows = seen.text[number + 1 :]
    rows = "\n".join(rows).strip("\n").split("\n")
    said = [line for line in said if not line.startswith(("hypervisor-qemu:", "qemu-system-"))]
    return seen._replace(text=rows, output="\n".join(said))


def differences(theirs: Seen, ours: Seen) -> list[str]:
    """Lines that say what is not the same."""
    theirs, ours = _of_the_kernel(theirs), _of_the_kernel(ours)
    found = [
        *unified_diff(theirs.text, ours.text, "screen under QEMU", "screen here", lineterm="", n=0),
        *unified_diff(theirs.output.split("\n"), ours.output.split("\n"), "QEMU says", "said here", lineterm="", n=0),
    ]
    if theirs.status != ours.status:
        found.append(f"exit status: {theirs.status} under QEMU, {ours.status} here")
    if theirs.picture != ours.picture and not theirs.picture.startswith(TEXT_MODE):
        count = sum(one != other for one, other in zip(theirs.picture, ours.picture, strict=False))
        found.append(f"pictures: {len(theirs.picture)} and {len(ours.picture)} bytes, {count} of them differ")
    return found


def main(arguments: Sequence[str]) -> int:
    """Compare one kernel; the exit status."""
    bare = bool(arguments) and arguments[0].startswith(BARE)
    if len(arguments) != 2 or not (bare or arguments[0] in KERNELS):
        print(f"give a kernel and its folder; the kernels are {', '.join(KERNELS)}, {BARE}IMAGE", file=sys.stderr)
        return 2
    name, folder = arguments[0], Path(arguments[1])
    kernel = Kernel(BARE_LINE.format(name.removeprefix(BARE)), "a b ret") if bare else KERNELS[name]
    words = shlex.split(kernel.line)
    theirs = run([program(words[0]), *words[1:]], kernel, folder)
    ours = run([*OURS, *words[1:]], kernel, folder)
    found = differences(theirs, ours)
    print("\n".join(line for line in theirs.text if line))
    print(theirs.output)
    print("\n".join(["---- what differs:", *found] if found else ["---- the same"]))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
