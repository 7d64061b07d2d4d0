"""What the event ring costs: ``python -m bench.ring`` measures guests that do nothing but cause events.

The same guest runs on this package, on a copy of it whose ring remembers nothing and on one that remembers each event
nine times, in turns, and the lowest CPU times are compared: the machine may be busy. Two figures for one cost, because
taking code away also moves what stays, and that alone changes these loops by a few per cent in either direction; what
eight more entries cost is eight times as large, and the same shift weighs an eighth. These guests are the worst case;
one that also computes pays less.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROUNDS = 12
MORE = 8
GUESTS = {
    "int + iret": ("mov ecx, 3000000; again: int 0x40; dec ecx; jnz again; hlt", {0x40: "iretq"}),
    "#UD + iret": ("mov ecx, 3000000; again: ud2; dec ecx; jnz again; hlt", {6: "add qword ptr [rsp], 2; iretq"}),
    "port write": ("mov ecx, 150000; again: out 0x80, al; dec ecx; jnz again; hlt", {}),
}
RUN = """
import sys, time
import hypervisor as hv
from bench.ring import GUESTS
from tests.core.bare import bare, with_idt
code, handlers = GUESTS[sys.argv[1]]
with bare(code) as vm:
    with_idt(vm, handlers)
    began = time.process_time()
    assert vm.run(timeout=600).reason is hv.Reason.HALTED
    print(time.process_time() - began)
"""


def changed(folder: Path, change: Callable[[str], str]) -> Path:
    """A copy of the package whose ring is another one."""
    for name in ("hypervisor", "tests", "bench"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for kernels in (folder / "hypervisor" / "engine" / "kernels").glob("*.py"):
        kernels.write_text(change(kernels.read_text()))
    return folder


def nothing(text: str) -> str:
    """``ring`` without its body."""
    before, start, body = text.partition("    at = ld64(b + _RING_AT)\n")
    return before + "    return b + _RING\n" + body.partition("    return slot\n")[2] if start else text


def many_times(text: str) -> str:
    """Each call of ``ring`` `MORE` times more."""
    return re.sub(r"^ +(?:slot = )?ring\(b, .*\n", lambda call: call[0] * (1 + MORE), text, flags=re.MULTILINE)


def seconds(folder: Path, guest: str) -> float:
    """The CPU time of one run, in seconds."""
    command = [sys.executable, "-c", RUN, guest]
    done = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def main() -> None:
    """Print a line for each guest."""
    with tempfile.TemporaryDirectory() as none, tempfile.TemporaryDirectory() as more:
        folders = ROOT, changed(Path(none), nothing), changed(Path(more), many_times)
        for guest in GUESTS:
            best = [min(times) for times in zip(*(
                [seconds(folder, guest) for folder in folders] for _ in range(ROUNDS)
            ), strict=True)]  # fmt: skip
            removed, added = best[0] / best[1] - 1, (best[2] / best[0] - 1) / MORE
            print(
                f"{guest:<12} {best[0]:.3f} s; without the ring {best[1]:.3f} s: it costs {100 * removed:.1f} %; "
                f"with {MORE} more entries {best[2]:.3f} s: {100 * added:.1f} % each"
            )


if __name__ == "__main__":
    main()
