"""The same boot sector here and under qemu-system-x86_64, with the same things done to both."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hypervisor as hv
from tests.programs import QEMU, program
from tests.sectors import boot_sector

SECONDS = 60
"""After which a machine is given up."""

TOOLS = """
# The character in AL to COM1.
put: push dx
    mov dx, 0x3f8
    out dx, al
    pop dx
    ret
# AL in hex and a blank.
hex: push ax
    shr al, 4
    call digit
    pop ax
    push ax
    and al, 15
    call digit
    mov al, ' '
    call put
    pop ax
    ret
digit: cmp al, 10
    jb decimal
    add al, 39
decimal: add al, '0'
    jmp put
# AX in hex and a blank.
hex16: push ax
    mov al, ah
    shr al, 4
    call digit
    mov al, ah
    and al, 15
    call digit
    pop ax
    jmp hex
# End the run with status 1 (0 << 1 | 1).
quit: mov dx, 0xf4
    xor al, al
    out dx, al
forever: cli
    hlt
    jmp forever
"""
START = """
    cli
    cld
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    jmp main
"""

Step = tuple[str, Sequence[str], Callable[[hv.VM], object]]
"""When the guest has said this, type these commands into QEMU's monitor, and do that here."""


def sector(main: str) -> bytes:
    """A boot sector of ``main``, which may call what `TOOLS` has, padded to a track."""
    return boot_sector(f"{START}{TOOLS}\nmain:\n{main}").ljust(63 * 512, b"\0")


def here(image: bytes, steps: Sequence[Step] = (), **options: Any) -> str:
    """What the guest sends to COM1 until it ends itself."""
    with hv.boot(image, memory="16M", **options) as vm:
        for text, _, act in steps:
            vm.serial[0].expect(text, timeout=SECONDS)
            act(vm)
        result = vm.run(timeout=SECONDS)
        assert result.reason is hv.Reason.DEBUG_EXIT, f"{result.reason}: {result.message}\n{vm.serial[0].text}"
        return vm.serial[0].text


def under_qemu(image: bytes, directory: Path, steps: Sequence[Step] = (), *options: str) -> str:
    """The same under QEMU."""
    disk, monitor = directory / "disk.img", directory / "monitor"
    disk.write_bytes(image)
    command = [program(QEMU), "-accel", "tcg", "-display", "none", "-no-reboot", "-m", "16", "-serial", "stdio"]
    command += ["-nic", "none", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive", f"format=raw,file={disk}"]
    command += ["-monitor", f"unix:{monitor},server=on,wait=off", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT) as process:
        watchdog = threading.Timer(SECONDS, process.kill)
        watchdog.start()
        assert process.stdout is not None
        output = b""
        for text, commands, _ in steps:
            while text.encode() not in output and (byte := process.stdout.read(1)):
                output += byte
            _tell(monitor, commands)
        output += process.stdout.read()
        process.wait()
        watchdog.cancel()
    return output.decode()


def _tell(monitor: Path, commands: Sequence[str]) -> None:
    """Type ``commands`` into the monitor; each is done when the prompt is back."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        connection.connect(str(monitor))
        for command in ("", *commands):
            connection.sendall(command.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"(qemu) "):
                answer += connection.recv(4096)
            time.sleep(0.06)  # the keys are held for 30 ms
