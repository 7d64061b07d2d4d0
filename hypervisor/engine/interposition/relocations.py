"""Pointers in a loaded library that its relocations filled in, found by the name of what they point to.

The library has 75,000 relocations and 15,000 names, and this runs at each start: names are found by the library's own
hash table, as the dynamic linker does it. Source: System V ABI, chapter 5, Dynamic Linking; for DT_GNU_HASH glibc's
elf/dl-lookup.c.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager

from hypervisor.errors import EngineError

_DT_PLTRELSZ, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ, _DT_JMPREL = 2, 5, 6, 7, 8, 23
_DT_GNU_HASH, _DT_RELACOUNT = 0x6FFFFEF5, 0x6FFFFFF9
_R_X86_64_64, _R_X86_64_JUMP_SLOT = 1, 7  # a pointer in data, and one in the linkage table
_ROW, _SYMBOL = 24, 24  # bytes of a relocation, and of a symbol


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
        self._table = self._found.get(_DT_GNU_HASH, 0)
        """Of the library's own symbols, by hashes of their names; those it takes from elsewhere come before them."""
        self._taken = {self._name(number): number for number in range(_word(self._table + 4) if self._table else 0)}

    def calls(self, names: frozenset[str]) -> dict[str, int]:
        """Addresses of the pointers through which the library calls its functions of these names. They are writable."""
        return self._pointers(_DT_JMPREL, self._found[_DT_PLTRELSZ], 0, _R_X86_64_JUMP_SLOT, names)

    def data(self, names: frozenset[str]) -> dict[str, int]:
        """Addresses of the pointers to these functions in its tables. They are constant: see `writable`."""
        without_names = self._found.get(_DT_RELACOUNT, 0)  # which come first
        return self._pointers(_DT_RELA, self._found[_DT_RELASZ], without_names, _R_X86_64_64, names)

    def _pointers(self, table: int, size: int, first: int, kind: int, names: frozenset[str]) -> dict[str, int]:
        """Where relocations of a kind fill in the addresses of symbols: those of a table from the ``first`` on."""
        skipped = first * _ROW
        rows = memoryview(ctypes.string_at(self._found[table] + skipped, size - skipped)).cast(
            "Q"
        )  # place, info, addend
        wanted = {number << 32 | kind: name for name in names for number in self._symbols(name)}
        return {wanted[info]: self._base + rows[3 * n] for n, info in enumerate(rows[1::3].tolist()) if info in wanted}

    def _symbols(self, name: str) -> list[int]:
        """Numbers of the symbols of a name: one that the library takes from elsewhere, and one of its own."""
        found = [self._taken[name.encode()]] if name.encode() in self._taken else []
        if not self._table:
            return found
        buckets, first, words, _ = (ctypes.c_uint32 * 4).from_address(self._table)
        heads = self._table + 16 + 8 * words  # behind the filter
        wanted = _gnu_hash(name)
        number = _word(heads + 4 * (wanted % buckets))
        while number:
            hashed = _word(heads + 4 * (buckets + number - first))
            if hashed | 1 == wanted | 1 and self._name(number) == name.encode():
                found.append(number)
            number = 0 if hashed & 1 else number + 1
        return found

    def _name(self, number: int) -> bytes:
        return ctypes.string_at(self._found[_DT_STRTAB] + _word(self._found[_DT_SYMTAB] + _SYMBOL * number))


def _word(address: int) -> int:
    return ctypes.c_uint32.from_address(address).value


def _gnu_hash(name: str) -> int:
    value = 5381
    for byte in name.encode():
        value = value * 33 + byte & 0xFFFFFFFF
    return value


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
