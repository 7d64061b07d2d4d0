"""Pointers in a loaded library that its relocations filled in, found by the name of what they point to."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager

from hypervisor.errors import EngineError

_DT_PLTRELSZ, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ, _DT_STRSZ, _DT_JMPREL = 2, 5, 6, 7, 8, 10, 23
_R_X86_64_64, _R_X86_64_JUMP_SLOT = 1, 7  # a pointer in data, and one in the linkage table


class _Dynamic(ctypes.Structure):
    _fields_ = (("tag", ctypes.c_int64), ("value", ctypes.c_uint64))


class _LinkMap(ctypes.Structure):  # what dlopen returns on Linux
    _fields_ = (("base", ctypes.c_uint64), ("name", ctypes.c_char_p), ("dynamic", ctypes.POINTER(_Dynamic)))


class Relocations:
    """The relocations of a library, by the handle that dlopen returned."""

    def __init__(self, handle: int) -> None:
        link = _LinkMap.from_address(handle)
        self._base = link.base
        self._found: dict[int, int] = {}
        n = 0
        while link.dynamic[n].tag:
            self._found[link.dynamic[n].tag] = link.dynamic[n].value
            n += 1

    def calls(self, names: frozenset[str]) -> dict[str, int]:
        """Addresses of the pointers through which the library calls its functions of these names. They are writable."""
        return self._pointers(_DT_JMPREL, _DT_PLTRELSZ, _R_X86_64_JUMP_SLOT, names)

    def data(self, names: frozenset[str]) -> dict[str, int]:
        """Addresses of the pointers to these functions in its tables. They are constant: see `writable`."""
        return self._pointers(_DT_RELA, _DT_RELASZ, _R_X86_64_64, names)

    def _pointers(self, table: int, size: int, kind: int, names: frozenset[str]) -> dict[str, int]:
        """Where relocations of a kind fill in the addresses of symbols. (There are 75,000: this runs at each start.)"""
        rows = memoryview(ctypes.string_at(self._found[table], self._found[size])).cast("Q")  # offset, info, addend
        infos = rows[1::3].tolist()
        wanted = {number << 32 | kind: name for number, name in self._symbols(names, (max(infos) >> 32) + 1)}
        return {wanted[info]: self._base + rows[3 * n] for n, info in enumerate(infos) if info in wanted}

    def _symbols(self, names: frozenset[str], count: int) -> list[tuple[int, str]]:
        """Numbers and names of symbols, of the first ``count``."""
        strings = ctypes.string_at(self._found[_DT_STRTAB], self._found[_DT_STRSZ])
        places = {}  # of each name in the table of strings, also as the end of a longer one
        for name in names:
            wanted, at = name.encode() + b"\0", -1
            while (at := strings.find(wanted, at + 1)) >= 0:
                places[at] = name
        entries = (ctypes.c_uint32 * (6 * count)).from_address(self._found[_DT_SYMTAB])
        begins = memoryview(entries).cast("B").cast("I")[0::6].tolist()
        return [(number, places[place]) for number, place in enumerate(begins) if place in places]


@contextmanager
def writable(addresses: list[int]) -> Iterator[None]:
    """Let constant data at these addresses be written meanwhile."""
    pages = {address & -mmap.PAGESIZE for address in addresses}
    _protect(pages, mmap.PROT_READ | mmap.PROT_WRITE)
    try:
        yield
    finally:
        _protect(pages, mmap.PROT_READ)


def _protect(pages: set[int], protection: int) -> None:
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for page in pages:
        if protect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), protection):
            raise EngineError(
                f"The system does not let Unicorn's tables be changed (mprotect: error {ctypes.get_errno()}), which "
                "device memory needs. A security policy of this process forbids it: run outside of it."
            )
