"""What the event ring costs: ``python -m bench.ring`` measures guests that do nothing but cause events.

The same guest runs on this package and on a copy of it whose ring remembers nothing, in turns, and the lowest CPU times
are compared: the machine may be busy. These guests are the worst case; one that also computes pays less.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROUNDS = 12
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


def without_ring(folder: Path) -> None:
    """A copy of the package whose ring remembers nothing."""
    for name in ("hypervisor", "tests", "bench"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    exits = folder / "hypervisor" / "engine" / "kernels" / "exits.py"
    text = exits.read_text()
    start = text.index("    at = ld64(b + _RING_AT)")
    end = text.index("    return slot\n", start)
    exits.write_text(text[:start] + "    return b + _RING\n" + text[end + len("    return slot\n") :])


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
    with tempfile.TemporaryDirectory() as scratch:
        bare = Path(scratch)
        without_ring(bare)
        for guest in GUESTS:
            times: dict[Path, list[float]] = {ROOT: [], bare: []}
            for _ in range(ROUNDS):
                for folder, measured in times.items():
                    measured.append(seconds(folder, guest))
            best, least = min(times[ROOT]), min(times[bare])
            print(f"{guest:<12} {best:.3f} s with the ring, {least:.3f} s without: {100 * (best / least - 1):+.1f} %")


if __name__ == "__main__":
    main()
