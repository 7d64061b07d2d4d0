"""A kernel under this hypervisor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypervisor as hv
from tests.conventions import build
from tests.conventions.outcome import Outcome
from tests.conventions.table import Act, Kernel, Medium

PATIENCE_S = 60
_ENDINGS = {
    hv.Reason.HALTED: "halted",
    hv.Reason.POWERED_OFF: "power-off",
    hv.Reason.RESET: "reset",
    hv.Reason.CRASHED: "reset",  # what a triple fault does to a PC
}


def run(kernel: Kernel, medium: Medium, image: Path, firmware: Path | None = None) -> Outcome:
    """Boot the image, do what a person does, and look when it has ended."""
    options: dict[str, Any] = {"memory": "64M", "cpus": kernel.cpus, "firmware": firmware}
    if kernel.drive is not None:
        drive = build.drive(kernel.drive, image.parent)
        options |= {"floppy": drive} if kernel.drive is Medium.FLOPPY else {"disks": [drive]}
    if medium is Medium.KERNEL:
        options["image"] = image
    elif medium is Medium.CD:
        options |= {"image": None, "cdrom": image}
    else:
        options |= {"image": image, "media": medium.value}
    with hv.boot(options.pop("image"), **options) as vm:
        for act in kernel.acts:
            result = vm.run(until=vm.serial[0].contains(act.after), timeout=PATIENCE_S)
            assert result.reason is hv.Reason.UNTIL, f"{result.reason}: {result.message}\n{vm.screen.text}"
            _do(vm, act)
        result = vm.run(timeout=PATIENCE_S)
        ending = f"exit {result.status}" if result.reason is hv.Reason.DEBUG_EXIT else _ENDINGS.get(result.reason)
        picture, screen, colours = None, "", b""
        if kernel.picture:
            pixels = vm.screen.pixels
            if pixels.shape == (200, 320, 3):
                pixels = pixels.repeat(2, 0).repeat(2, 1)  # as a VGA's monitor, and QEMU, show mode 13h
            picture = (pixels.shape[1], pixels.shape[0], pixels.tobytes())
        elif kernel.status is None:
            screen = vm.screen.text.rstrip()
            colours = b"".join(row.attributes for row in vm.screen.rows)
        return Outcome(
            ending or f"{result.reason.value}: {result.message}",
            screen,
            vm.serial[0].bytes,
            vm.debugcon.bytes,
            colours,
            picture,
        )


def _do(vm: hv.VM, act: Act) -> None:
    for key in act.keys:
        vm.keyboard.press(key)
    held = False
    for dx, dy, down in act.mouse:
        if (dx, dy) != (0, 0):
            vm.mouse.move(dx, dy)
        if down is not held:
            (vm.mouse.down if down else vm.mouse.up)()
            held = down
