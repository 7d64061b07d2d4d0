"""INT 16h and the keyboard interrupt's part in it: the ring of keys at 0040:001E.

Reading blocks in the guest, not in the host: the service answers WAIT and the ROM's stub halts until an interrupt
(the timer's, or the keyboard's), then asks again. Source: IBM PS/2 and PC BIOS Interface Technical Reference, section
2, "Interrupt 09h" and "16h".
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.traps import bios_bda as bda
from hypervisor.traps import bios_keys as keys
from hypervisor.traps.bios_call import DONE, WAIT, ZF, Call, Outcome
from hypervisor.traps.bios_table import service

LAST_WAS_EXTENDED = 1 << 1


class Keyboard:
    """The keyboard services. ``queue`` is drained into the ring as room allows; ``reset`` is what Ctrl-Alt-Del does."""

    def __init__(self, area: bda.Bda, queue: keys.KeyQueue, reset: Callable[[], None]) -> None:
        self.area = area
        self.queue = queue
        self.reset = reset

    def scan_code(self, code: int) -> None:
        """The keyboard interrupt has read ``code`` from port 60h."""
        area = self.area
        flags, state = area.byte(bda.SHIFT_FLAGS), area.byte(bda.KEYBOARD_FLAGS)
        extended = bool(state & LAST_WAS_EXTENDED)
        now_extended = LAST_WAS_EXTENDED if code == keys.EXTENDED else 0
        area.set_byte(bda.KEYBOARD_FLAGS, state & ~LAST_WAS_EXTENDED | now_extended)
        pressed = code & ~keys.RELEASED
        if now_extended or (extended and pressed in (0x2A, 0x36)):  # fake shifts around extended keys
            return
        if pressed in keys.MODIFIERS:
            bit = keys.MODIFIERS[pressed]
            area.set_byte(bda.SHIFT_FLAGS, flags & ~bit if code & keys.RELEASED else flags | bit)
        elif code in keys.LOCKS:
            area.set_byte(bda.SHIFT_FLAGS, flags ^ keys.LOCKS[code])
        elif code == keys.DELETE and flags & keys.CTRL and flags & keys.ALT:
            self.reset()
        elif (key := keys.translate(code, flags, extended=extended)) is not None:
            self._append(key)

    @service(0x16, 0x00, "read a key, waiting for one")
    def _read_classic(self, call: Call) -> Outcome:
        return self._read(call, extended=False)

    @service(0x16, 0x10, "read a key of the 101-key keyboard, waiting for one")
    def _read_extended(self, call: Call) -> Outcome:
        return self._read(call, extended=True)

    @service(0x16, 0x01, "look whether a key waits")
    def _peek_classic(self, call: Call) -> Outcome:
        return self._peek(call, extended=False)

    @service(0x16, 0x11, "look whether a key of the 101-key keyboard waits")
    def _peek_extended(self, call: Call) -> Outcome:
        return self._peek(call, extended=True)

    @service(0x16, 0x03, "set typematic rate (nothing repeats here)")
    def _set_typematic(self, call: Call) -> Outcome:
        return DONE

    def _read(self, call: Call, *, extended: bool) -> Outcome:
        key = self._oldest(remove=True)
        if key is None:
            return WAIT
        call.regs.ax = key if extended else _classic(key)
        return DONE

    def _peek(self, call: Call, *, extended: bool) -> Outcome:
        key = self._oldest(remove=False)
        call.set_flag(ZF, key is None)
        if key is not None:
            call.regs.ax = key if extended else _classic(key)
        return DONE

    @service(0x16, 0x02, "shift flags")
    def _shift_flags(self, call: Call) -> Outcome:
        call.regs.al = self.area.byte(bda.SHIFT_FLAGS)
        return DONE

    @service(0x16, 0x12, "extended shift flags")
    def _extended_shift_flags(self, call: Call) -> Outcome:
        """AH has left Ctrl and left Alt in bits 0 and 1: boot loaders take what is set there for keys held down."""
        flags = self.area.byte(bda.SHIFT_FLAGS)
        call.regs.ax = (flags >> 2 & 3) << 8 | flags
        return DONE

    @service(0x16, 0x05, "put a key into the buffer")
    def _push(self, call: Call) -> Outcome:
        call.regs.al = 0 if self._append(call.regs.cx) else 1
        return DONE

    def _oldest(self, *, remove: bool) -> int | None:
        while not self._full() and (typed := self.queue.pop()) is not None:
            self._append(typed)
        head, tail, _ = self._ring()
        if head == tail:
            return self._oldest(remove=remove) if self.queue.wanted(waiting=remove) else None
        if remove:
            self.area.set_word(bda.KEY_HEAD, self._after(head))
        return self.area.word(0x400 + head)

    def _append(self, key: int) -> bool:
        """Whether there was room."""
        if self._full():
            return False
        _, tail, _ = self._ring()
        self.area.set_word(0x400 + tail, key)
        self.area.set_word(bda.KEY_TAIL, self._after(tail))
        return True

    def _full(self) -> bool:
        head, tail, _ = self._ring()
        return self._after(tail) == head

    def _after(self, offset: int) -> int:
        _, _, (start, end) = self._ring()
        return offset + 2 if offset + 2 < end else start

    def _ring(self) -> tuple[int, int, tuple[int, int]]:
        """Head, tail and bounds, as offsets in segment 40h; a ring that the guest has made senseless is emptied."""
        area = self.area
        head, tail = area.word(bda.KEY_HEAD), area.word(bda.KEY_TAIL)
        start, end = area.word(bda.KEY_BUFFER_START), area.word(bda.KEY_BUFFER_END)
        if not (start + 4 <= end and start <= head < end and start <= tail < end):
            start = head = tail = bda.KEY_BUFFER - 0x400
            end = start + 32
            for field, value in (
                (bda.KEY_HEAD, head),
                (bda.KEY_TAIL, tail),
                (bda.KEY_BUFFER_START, start),
                (bda.KEY_BUFFER_END, end),
            ):
                area.set_word(field, value)
        return head, tail, (start, end)


def _classic(key: int) -> int:
    """A key as function 00h shows it: the 101-key keyboard's extra keys look like the old keypad's."""
    return key & 0xFF00 if key & 0xFF == keys.EXTENDED and key >> 8 else key
