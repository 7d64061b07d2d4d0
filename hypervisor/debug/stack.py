"""Stack traces: by frame pointers where the code keeps them, else by looking for return addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypervisor.core.crash import StackFrame
from hypervisor.debug._guest import Symbols
from hypervisor.debug.disasm import code_bits, disassemble, linear_rip, read_backward, read_forward
from hypervisor.errors import GuestFault

MAX_FRAMES = 32
SCAN_WORDS = 512
"""How much of the stack is searched where there are no frame pointers."""
MAX_GUESSES = 12
LONGEST_CALL = 8
"""Bytes of the longest CALL: prefixes, FF /2, SIB and a 32-bit displacement."""
CALL_BEGINS = frozenset((0xE8, 0xFF, 0x9A, 0x66, 0x67, 0x2E, 0x64, 0x65, *range(0x40, 0x50)))
"""First bytes of a CALL: E8, 9A, FF, and the prefixes that it may have."""
LARGEST_FRAME = 1 << 20
"""Bytes between two frame pointers beyond which they are taken for garbage."""


def trace(vcpu: Any, symbols: Symbols) -> list[StackFrame]:
    """Where the guest is and how it came there, innermost first. Guessed frames are marked."""
    return list(_Stack(vcpu, symbols).frames())


class _Stack:
    def __init__(self, vcpu: Any, symbols: Symbols) -> None:
        self._vcpu, self._symbols = vcpu, symbols
        self._bits = code_bits(vcpu)
        self._size = self._bits // 8
        self._base = 0 if self._bits == 64 else vcpu.ss.base
        self._mask = (1 << self._bits) - 1
        self._known: dict[int, bool] = {}

    def frames(self) -> Iterator[StackFrame]:
        rip = linear_rip(self._vcpu)
        yield self._frame(rip, rip)
        sp = self._vcpu.rsp & self._mask
        found = self._symbols.lookup(rip)
        # a function that has not set up its frame yet: the return address is on top, or below the pushed RBP
        early = sp + self._size * found[1] if found is not None and found[1] in (0, 1) else None
        if early is not None and self._is_return(self._word(early)):
            yield self._return(self._word(early) or 0)
        else:
            early = None
        followed = list(self._by_frame_pointers(sp))
        for address in followed:
            yield self._return(address)
        if not followed:
            yield from self._scan(sp if early is None else early + self._size)

    def _by_frame_pointers(self, sp: int) -> Iterator[int]:
        """Return addresses, as the chain of saved frame pointers leads to them."""
        pointer = self._vcpu.get("rbp") & self._mask
        below = sp
        for _ in range(MAX_FRAMES):
            if not below <= pointer < below + LARGEST_FRAME or pointer % min(self._size, 4):
                return
            address = self._word(pointer + self._size)
            if not self._is_return(address):
                return
            below = pointer + 2 * self._size
            yield address or 0
            pointer = self._word(pointer) or 0

    def _scan(self, start: int) -> Iterator[StackFrame]:
        guesses = 0
        try:
            data = read_forward(self._vcpu, self._at(start), SCAN_WORDS * self._size)
        except GuestFault:
            return
        for n in range(0, len(data) - self._size + 1, self._size):
            word = int.from_bytes(data[n : n + self._size], "little")
            if (self._symbols.lookup(self._linear(word)) or not len(self._symbols)) and self._is_return(word):
                guesses += 1
                yield self._return(word, guessed=True)
                if guesses == MAX_GUESSES:
                    return

    def _word(self, offset: int) -> int | None:
        """A word of the stack, None where it cannot be read."""
        try:
            return int.from_bytes(self._vcpu.read(self._at(offset), self._size), "little")
        except GuestFault:
            return None

    def _at(self, offset: int) -> int:
        """The linear address of an offset in the stack segment."""
        return offset if self._bits == 64 else self._base + (offset & self._mask) & 0xFFFF_FFFF

    def _linear(self, offset: int) -> int:
        return offset if self._bits == 64 else self._vcpu.cs.base + offset & 0xFFFF_FFFF

    def _is_return(self, offset: int | None) -> bool:
        """Whether a CALL ends at this offset in the code segment."""
        if not offset:
            return False
        if offset not in self._known:
            self._known[offset] = self._ends_a_call(self._linear(offset))
        return self._known[offset]

    def _ends_a_call(self, at: int) -> bool:
        before = read_backward(self._vcpu, at, LONGEST_CALL)
        for length in range(2, len(before) + 1):
            data = before[-length:]
            if data[0] in CALL_BEGINS:
                decoded = disassemble(data, at - length, self._bits, 1)[0]
                if len(decoded.data) == length and decoded.text.startswith(("call", "lcall")):
                    return True
        return False

    def _return(self, offset: int, guessed: bool = False) -> StackFrame:
        at = self._linear(offset)
        return self._frame(at, at - 1, guessed)

    def _frame(self, address: int, instruction: int, guessed: bool = False) -> StackFrame:
        found = self._symbols.lookup(instruction)
        name = ""
        if found is not None:
            offset = found[1] + address - instruction
            name = f"{found[0]}+{offset:#x}" if offset else found[0]
        line = self._symbols.line(instruction)
        return StackFrame(address, name, f"{line[0]}:{line[1]}" if line else "", guessed)
