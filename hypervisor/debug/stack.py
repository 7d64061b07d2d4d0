"""Stack traces: by the file's call frames, by frame pointers where the code keeps them, else by looking for return
addresses; and across interrupts, to the code that they came in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hypervisor.debug.disasm import code_bits, disassemble, linear_rip, read_backward, read_forward
from hypervisor.debug.interrupted import Interrupted
from hypervisor.debug.peeking import Symbols
from hypervisor.errors import GuestFault
from hypervisor.outcome.crash_record import StackFrame
from hypervisor.symbols.call_frames import Registers

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


def trace(vcpu: Any, symbols: Symbols, pending: Sequence[Interrupted] = ()) -> list[StackFrame]:
    """Where the guest is and how it came there, innermost first. Guessed frames are marked.

    ``pending`` are the interrupts whose handlers run: the trace goes on behind their frames, where they came in.
    """
    return list(_Stack(vcpu, symbols, pending).frames())


class _Stack:
    def __init__(self, vcpu: Any, symbols: Symbols, pending: Sequence[Interrupted]) -> None:
        self._vcpu, self._symbols = vcpu, symbols
        self._bits = code_bits(vcpu)
        self._size = self._bits // 8
        self._base = 0 if self._bits == 64 else vcpu.ss.base
        self._mask = (1 << self._bits) - 1
        self._known: dict[int, bool] = {}
        self._pending = list(pending)

    def frames(self) -> Iterator[StackFrame]:
        rip = linear_rip(self._vcpu)
        yield self._frame(rip, rip)
        here = Registers(self._vcpu.rip, self._vcpu.rsp & self._mask, self._vcpu.get("rbp") & self._mask)
        exact = True  # ip is the instruction itself, not what follows a CALL
        linked = False  # a caller has been found for sure since then
        for _ in range(MAX_FRAMES):
            caller = self._linked(here, exact)
            linked = linked or caller is not None
            caller = caller or (self._on_top(here) if exact else None)
            came = self._came_in(here, caller)
            if came is not None:
                if caller is None:
                    yield from self._scan(here.sp, came.at)
                self._pending.remove(came)
                here, exact, linked = self._before(came, here, caller), True, False
                at = self._linear(here.ip)
                yield replace(self._frame(at, at), interrupted=str(came.event))
            elif caller is not None:
                here, exact = caller, False
                yield self._return(here.ip)
            else:
                break
        if not linked:
            yield from self._scan(here.sp)

    def _linked(self, here: Registers, exact: bool) -> Registers | None:
        """The caller's registers: as the file's call frames say, else as the frame pointer leads to them."""
        found = self._symbols.caller(here, self._linear(here.ip) - (not exact), self._word, self._bits)
        if found is None and not (exact and self._on_top(here)) and self._plausible(here):
            back, pointer = self._word(here.bp + self._size), self._word(here.bp)
            found = None if back is None else Registers(back, here.bp + 2 * self._size, pointer or 0)
        if found is None or self._is_return(found.ip) or self._came_in(here, found):
            return found
        return None

    def _plausible(self, here: Registers) -> bool:
        """Whether RBP can be a frame pointer."""
        return here.sp <= here.bp < here.sp + LARGEST_FRAME and not here.bp % min(self._size, 4)

    def _on_top(self, here: Registers) -> Registers | None:
        """The caller of a function that has not set up its frame: at most RBP has been pushed. That of no function,
        too: a CALL that led astray leaves its return address on top.
        """
        found = self._symbols.lookup(self._linear(here.ip))
        pushed = found[1] if found is not None else 0
        if pushed > 1 or not len(self._symbols):
            return None
        back = self._word(here.sp + self._size * pushed)
        bp = self._word(here.sp) or 0 if pushed else here.bp
        return Registers(back or 0, here.sp + self._size * (pushed + 1), bp) if self._is_return(back) else None

    def _came_in(self, here: Registers, caller: Registers | None) -> Interrupted | None:
        """The interrupt whose frame lies where this function would have its own return address, or next after it."""
        end = self._mask if caller is None else caller.sp + self._size  # an error code may lie in between
        return next((came for came in self._pending if here.sp <= came.at < end), None)

    def _before(self, came: Interrupted, here: Registers, caller: Registers | None) -> Registers:
        """The registers of the code that was interrupted."""
        user = self._bits == 64 or (self._word(came.at + self._size) or 0) & 3 > self._vcpu.cpl
        after = came.at + 3 * self._size
        own = caller is not None and came.at >= caller.sp - self._size  # the handler itself has a frame, and saved RBP
        bp = caller.bp if caller is not None and own else here.bp
        return Registers(came.event.rip, (self._word(after) or 0) if user else after, bp)

    def _scan(self, start: int, end: int | None = None) -> Iterator[StackFrame]:
        """Words between two offsets that look like return addresses."""
        guesses = 0
        size = SCAN_WORDS * self._size if end is None else min(end - start, SCAN_WORDS * self._size)
        try:
            data = read_forward(self._vcpu, self._at(start), size)
        except GuestFault:
            return
        for n in range(0, len(data) - self._size + 1, self._size):
            word = int.from_bytes(data[n : n + self._size], "little")
            if (self._symbols.lookup(self._linear(word)) or not len(self._symbols)) and self._is_return(word):
                guesses += 1
                yield replace(self._return(word), guessed=True)
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

    def _return(self, offset: int) -> StackFrame:
        at = self._linear(offset)
        return self._frame(at, at - 1)

    def _frame(self, address: int, instruction: int) -> StackFrame:
        return named(self._symbols, address, instruction)


def named(symbols: Symbols, address: int, instruction: int) -> StackFrame:
    """A place with the symbol and line of ``instruction``, which begins or ends there."""
    found, line = symbols.lookup(instruction), symbols.line(instruction)
    name = ""
    if found is not None:
        offset = found[1] + address - instruction
        name = f"{found[0]}+{offset:#x}" if offset else found[0]
    return StackFrame(address, name, f"{line[0]}:{line[1]}" if line else "")
