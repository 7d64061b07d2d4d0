"""Floating point and MMX on the host's unit: the machine code of `x87_code`, `sse_code` and `mmx_code`, where generated
code calls it.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable

from hypervisor.engine.floating_point import mmx_code, sse_code, sse_refusals, x87_code
from hypervisor.engine.floating_point.assembly import assemble, offsets

OURS = ("x87_unusual", "sse_exception", "refuse")
"""Functions of `hooks` that the code calls."""

_HELPERS = {
    f"helper_{name}_x86_64": f"{kind}_{name}"
    for kind, pieces in (("x87", x87_code.PIECES), ("sse", sse_code.PIECES), ("mmx", mmx_code.PIECES))
    for name in pieces
}
NAMES = tuple(_HELPERS)
"""Unicorn's helpers that are replaced."""

_SLOTS = (*OURS, *x87_code.ORIGINALS, *sse_refusals.ORIGINALS, *x87_code.ACCESS, *sse_refusals.ACCESS)
_LABELS = (*_HELPERS.values(), "x87_execute", "mmx_done", *(f"slot_{name}" for name in _SLOTS))


def compile_floating() -> bytes:
    """The machine code, to be kept."""
    slots = "\n".join(f"slot_{name}:\n    .quad 0" for name in _SLOTS)
    return assemble(f"{x87_code.source()}\n{sse_code.source()}\n{mmx_code.source()}\n    .p2align 3\n{slots}", _LABELS)


class Floating:
    """The code in memory."""

    def __init__(self, code: bytes, ours: dict[str, int], unicorn: Callable[[str], int]) -> None:
        self._page = mmap.mmap(-1, len(code), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        where = {label: start + offset for label, offset in offsets(code, _LABELS).items()}
        self._page.write(code)
        for name in _SLOTS:
            target = ours[name] if name in OURS else unicorn(name)
            ctypes.c_uint64.from_address(where[f"slot_{name}"]).value = target
        self.address = {name: where[label] for name, label in _HELPERS.items()}
        self.x87_execute, self.mmx_done = where["x87_execute"], where["mmx_done"]
