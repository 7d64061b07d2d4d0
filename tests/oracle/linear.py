"""Linear memory accesses that raise the guest's exception."""

from __future__ import annotations

from dataclasses import replace

from .paging import GENERAL_PROTECTION, PAGE_4K, STACK_FAULT, Access, Fault, Ok, canonical, commit, translate
from .state import CR4_SMAP, MASK32, MASK64, Memory, State


class GuestFaultError(Exception):
    """An exception raised inside the guest: vector, error code, and the address for a page fault."""

    def __init__(self, vector: int, error: int, cr2: int | None = None) -> None:
        """``error`` already contains the EXT bit."""
        super().__init__(f"vector {vector}, error {error:#x}")
        self.vector = vector
        self.error = error
        self.cr2 = cr2


class Linear:
    """Guest memory through the page tables of ``state``. ``ext`` goes into the error code of #GP and #SS."""

    def __init__(self, memory: Memory, state: State, ext: int = 0) -> None:
        """Nothing is read until the first access."""
        self.memory = memory
        self.state = state
        self.ext = ext
        self.writes = 0
        self.smap_and_ac = False

    def read_system(self, va: int, n: int) -> bytes:
        """Read a descriptor table or TSS: implicit, supervisor at any CPL."""
        return b"".join(
            self.memory.read(ok.gpa, size) for ok, size in self._translate(self.state, va, n, Access.READ, True, False)
        )

    def pop_at(self, va: int, n: int) -> bytes:
        """Read the stack with the rights of the running program."""
        return b"".join(
            self.memory.read(ok.gpa, size) for ok, size in self._translate(self.state, va, n, Access.READ, False, True)
        )

    def write_system(self, va: int, data: bytes) -> None:
        """Write a descriptor table or TSS."""
        self._write(self.state, va, data, implicit=True, stack=False)

    def push_at(self, va: int, data: bytes, cpl: int) -> None:
        """Write to the stack with the rights of ``cpl``.

        These pushes count as explicit accesses, so AC lets them onto a user page in spite of SMAP; when a stack
        switch out of ring 3 depends on that, ``smap_and_ac`` remembers it.
        """
        self._write(replace(self.state, cpl=cpl), va, data, implicit=False, stack=True)

    def _write(self, state: State, va: int, data: bytes, implicit: bool, stack: bool) -> None:
        done = 0
        inner = state.cpl < 3 and self.state.cpl == 3
        for ok, size in self._translate(state, va, len(data), Access.WRITE, implicit, stack):
            if inner and ok.user and state.paging and state.cr4 & CR4_SMAP:
                self.smap_and_ac = True
            self.memory.write(ok.gpa, data[done : done + size])
            done += size
        self.writes += 1

    def _translate(
        self, state: State, va: int, n: int, access: Access, implicit: bool, stack: bool
    ) -> list[tuple[Ok, int]]:
        """Both pages of an access that crosses one are checked before either is touched."""
        mask = MASK64 if state.long_mode else MASK32
        if state.long_mode and not (canonical(va & mask) and canonical(va + n - 1 & mask)):
            raise GuestFaultError(STACK_FAULT if stack else GENERAL_PROTECTION, self.ext)
        parts = []
        while n:
            va &= mask
            size = min(n, PAGE_4K - va % PAGE_4K)
            parts.append((va, size))
            va, n = va + size, n - size
        for dry in (True, False):
            result = []
            for at, size in parts:
                ok = translate(self.memory, state, at, access, implicit, stack)
                if isinstance(ok, Fault):
                    raise GuestFaultError(ok.vector, ok.error, ok.cr2)
                if not dry:
                    commit(self.memory, ok)
                result.append((ok, size))
        return result
