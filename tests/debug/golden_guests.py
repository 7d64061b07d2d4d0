"""The guests of the golden tests: each makes one classic mistake, and is as right as it can be otherwise.

``python -m tests.debug.golden_guests`` writes what is said of each to the file beside its source; read the difference
before you commit it.
"""

from __future__ import annotations

from pathlib import Path

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.sectors import boot_sector

FOLDER = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in FOLDER.glob("*.asm"))


def booted(name: str) -> hv.VM:
    """The guest of this name, with its labels for symbols: a boot sector, or a flat 64-bit image at 1 MiB."""
    text = (FOLDER / f"{name}.asm").read_text()
    sector = "boot sector" in text.splitlines()[0]
    origin, mode = (0x7C00, 16) if sector else (0x100000, 64)
    image = assemble(text, origin=origin, mode=mode, file=f"{name}.asm", folder=FOLDER)
    if sector:
        vm = hv.boot(boot_sector(image.code), memory="8M")
    else:
        vm = hv.boot(image.code, memory="8M", format="flat", at=origin, mode=mode)
    vm.symbols.add(image.symbols)
    return vm


def verdict(name: str) -> str:
    """What is said of the guest: its crash report without registers, code and events, or the hint of one that waits."""
    with booted(name) as vm:
        result = vm.run(timeout=60, virtual_timeout=2)
    if result.crash is None:
        return f"{result.reason.value}\nlikely mistake: {result.hint}\n"
    text = str(result.crash)
    return text[: text.index("vcpu 0,")] + text[text.index("stack trace:") : text.index("stack:")]


if __name__ == "__main__":
    for guest in NAMES:
        (FOLDER / f"{guest}.txt").write_text(verdict(guest))
