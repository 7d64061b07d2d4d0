"""Where accesses that are not aligned leave Unicorn's slow path, to be looked at by `kernels.tlb.misaligned`.

Generated code calls a function of the softmmu for what it does not do itself; translations take its address from a
table of constants. Helpers call others for their own accesses, through the linkage table. In front of each stands a
piece of machine code that lets what is aligned, and need not be more, go on as before.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

_SIZES = {"w": 1, "l": 2, "q": 3}  # log2 of the bytes
_ALIGNMENT = 0x700  # what the access must be aligned to, in how it is made
_HELPERS = {
    "lduw": "lduw", "ldsw": "lduw", "ldl": "ldul", "ldq": "ldq", "stw": "stw", "stl": "stl", "stq": "stq",
}  # fmt: skip
"""What helpers call, and which of the functions that generated code calls does the same."""

TABLE: frozenset[str] = frozenset(
    f"helper_{order}_{access}_mmu_x86_64" for order in ("le", "be") for access in _HELPERS.values()
)
"""What generated code calls."""

CALLS: frozenset[str] = frozenset(f"cpu_{access}_mmuidx_ra_x86_64" for access in _HELPERS)
"""What helpers call. (Both names are Unicorn's.)"""


def pieces(address: Callable[[str], int], load: int, store: int) -> dict[str, bytes]:
    """The pieces by name; ``load`` and ``store`` are the entry points of `kernels.tlb.misaligned`."""
    code = {name: _piece(address(name), name.split("_")[2], load, store) for name in TABLE}
    for access, same in _HELPERS.items():
        size = _SIZES[access[-1]] << 4
        original = address(f"helper_le_{same}_mmu_x86_64")
        how = bytes((0x83, 0xC9 if same[0] == "s" else 0xCA, size))  # or edx, size (of a store: ecx)
        if access == "ldsw":
            # sub rsp, 8; mov r8, original; mov rax, load; call rax; add rsp, 8; cwde; ret
            piece = (
                b"\x48\x83\xec\x08\x49\xb8" + struct.pack("<Q", original) + b"\x48\xb8" + struct.pack("<Q", load)
                + b"\xff\xd0\x48\x83\xc4\x08\x98\xc3"
            )  # fmt: skip
        else:
            piece = _piece(original, same, load, store)
        code[f"cpu_{access}_mmuidx_ra_x86_64"] = how + piece
    return code


def _piece(original: int, access: str, load: int, store: int) -> bytes:
    """Go on at ``original`` with what is aligned; ours is told of it behind the arguments."""
    # mov r8 or r9, rax; how is in edx or ecx
    ours, tell, how = (load, b"\x49\x89\xc0", 0xC2) if access[0] == "l" else (store, b"\x49\x89\xc1", 0xC1)
    # mov rax, original; test how, alignment; jne over; test sil, size - 1; jne over; jmp rax;
    # over: tell; mov rax, ours; jmp rax
    return (
        b"\x48\xb8" + struct.pack("<QBBIBB", original, 0xF7, how, _ALIGNMENT, 0x75, 8)
        + bytes((0x40, 0xF6, 0xC6, (1 << _SIZES[access[-1]]) - 1)) + b"\x75\x02\xff\xe0"
        + tell + b"\x48\xb8" + struct.pack("<Q", ours) + b"\xff\xe0"
    )  # fmt: skip
