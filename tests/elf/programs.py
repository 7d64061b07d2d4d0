"""ELF files with debug data of every version, built by the host's compiler."""

from __future__ import annotations

import subprocess
from pathlib import Path

OPTIONS = ["-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-fcf-protection=none"]
LINK = ["-Wl,-n,-Ttext=0x100000,--build-id=none"]


def source(functions: int, first: int = 0) -> str:
    """Functions that call, loop, switch and inline, each on some lines."""
    parts = ["static inline int twice(int a)\n{\n    return a * 2;\n}\n"]
    for n in range(first, first + functions):
        parts.append(
            f"int f{n}(int a, int *p)\n{{\n    volatile char room[{n % 40 + 1}];\n    room[0] = (char)a;\n"
            f"    for (int i = 0; i < a; i++)\n        if (p[i] == {n})\n            a += twice(p[i]);\n"
            f"    switch (a & 7) {{\n    case 1: return a;\n    case 2: a = p[{n}] / (a | 1);\n"
            "    default: a ^= 5;\n    }\n"
            + (f"    return f{n - 1}(a, p) + twice(a);\n}}\n" if n > first else "    return a + room[0];\n}\n")
        )
    return "\n".join(parts)


def built(folder: Path, *options: str, units: int = 3, functions: int = 20) -> Path:
    """Some source files, compiled and linked with ``options``; returns the executable."""
    names = []
    for unit in range(units):
        names.append(f"unit{unit}.c")
        (folder / names[-1]).write_text(source(functions, unit * functions))
    (folder / "start.c").write_text(
        f"int f{functions - 1}(int, int *);\nvoid _start(void)\n{{\n    f1(1, 0);\n}}\n".replace(
            "f1(", f"f{functions - 1}(", 1
        )
    )
    done = subprocess.run(
        ["gcc", *OPTIONS, *LINK, *options, "-o", "main.elf", "start.c", *names],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "main.elf"
