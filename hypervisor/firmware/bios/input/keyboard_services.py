"""INT 9h and INT 16h: the keyboard's interrupt, and the keys that it leaves for programs.

INT 9h is machine code in the ROM, which guests may chain; it asks here what the scan code means. Reading blocks in the
guest, not in the host: the service answers WAIT and the ROM's stub halts until an interrupt (the timer's, or the
keyboard's), then asks again. Source: IBM PS/2 and PC BIOS Interface Technical Reference, section 2, "Interrupt 09h" and
"16h", and section 3 for the flags in the data area.
"""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.arch.flags import RFLAGS_ZF
from hypervisor.firmware.bios import bda
from hypervisor.firmware.bios.call import DONE, POLLED, WAIT, Call, Outcome
from hypervisor.firmware.bios.input import key_codes as codes
from hypervisor.firmware.bios.input.key_ring import KeyRing
from hypervisor.firmware.bios.input.typeahead import KeyQueue
from hypervisor.firmware.bios.service import service

AFTER_PAUSE, AFTER_EXTENDED, RIGHT_CTRL, RIGHT_ALT = 1 << 0, 1 << 1, 1 << 2, 1 << 3
"""Bits of 0040:0096."""
LEFT_CTRL, LEFT_ALT, SYSREQ_DOWN, SCROLL_DOWN, NUM_DOWN, CAPS_DOWN, INSERT_DOWN = (
    1 << 0, 1 << 1, 1 << 2, 1 << 4, 1 << 5, 1 << 6, 1 << 7,
)  # fmt: skip
"""Bits of 0040:0018."""
SCROLL_LOCK, INSERT = 1 << 4, 1 << 7
"""Bits of 0040:0017 beside those of `key_codes`."""
CTRL_KEY, ALT_KEY, INSERT_KEY, DELETE_KEY, BREAK_KEY = 0x1D, 0x38, 0x52, 0x53, 0x46
SHIFTS = {0x36: codes.RIGHT_SHIFT, 0x2A: codes.LEFT_SHIFT}
TOGGLES = {0x45: (codes.NUM_LOCK, NUM_DOWN), 0x3A: (codes.CAPS_LOCK, CAPS_DOWN), 0x46: (SCROLL_LOCK, SCROLL_DOWN)}
"""What a lock key switches in 0040:0017, and which bit of 0040:0018 says that it is down."""
BREAK_FLAG = 0x80
FUNCTIONS = 0x30
"""INT 16h AH=09h: functions 0Ah, and 10h to 12h, are there."""
KEYBOARD_ID = 0x41AB


class Keyboard:
    """The keyboard services. ``queue`` is drained into the ring as room allows; ``reset`` is what Ctrl-Alt-Del does."""

    def __init__(self, area: bda.Bda, queue: KeyQueue, reset: Callable[[], None]) -> None:
        self.area = area
        self.ring = KeyRing(area, queue)
        self.reset = reset

    def scan_code(self, code: int) -> bool:
        """The keyboard interrupt has read ``code`` from port 60h; whether that was Ctrl-Break."""
        area = self.area
        state = area.byte(bda.KEYBOARD_FLAGS)
        pressed = not code & codes.RELEASED
        key = code & ~codes.RELEASED
        if code in (codes.EXTENDED, codes.PAUSE):
            area.set_byte(bda.KEYBOARD_FLAGS, state | (AFTER_EXTENDED if code == codes.EXTENDED else AFTER_PAUSE))
            return False
        if state & AFTER_PAUSE:  # the pause key: two codes that mean nothing here, of Ctrl and Num Lock
            if key != CTRL_KEY:
                area.set_byte(bda.KEYBOARD_FLAGS, state & ~AFTER_PAUSE)
            return False
        extended = bool(state & AFTER_EXTENDED)
        area.set_byte(bda.KEYBOARD_FLAGS, state & ~AFTER_EXTENDED)
        if self._modifier(key, pressed=pressed, extended=extended) or not pressed:
            return False
        return self._key(code, extended=extended)

    def _key(self, code: int, *, extended: bool) -> bool:
        """A key that is not one of the shifts was pressed; whether it was Ctrl-Break."""
        area = self.area
        flags = area.byte(bda.SHIFT_FLAGS)
        if code == DELETE_KEY and flags & codes.CTRL and flags & codes.ALT:
            self.reset()
            return False
        if code == BREAK_KEY and extended and flags & codes.CTRL:
            area.set_byte(bda.BREAK, BREAK_FLAG)
            self.ring.clear()
            self.ring.append(0)
            return True
        key = codes.translate(code, flags, extended=extended)
        if key is not None:
            self.ring.typed(key)
        return False

    def _modifier(self, key: int, *, pressed: bool, extended: bool) -> bool:
        """Keep the flags of a key that changes others; whether it is one."""
        if key in SHIFTS:
            if not extended:  # with the prefix they are fakes, around keys that the keypad has as well
                self._flag(bda.SHIFT_FLAGS, SHIFTS[key], pressed)
        elif key in (CTRL_KEY, ALT_KEY):
            left, right, both = (
                (LEFT_CTRL, RIGHT_CTRL, codes.CTRL) if key == CTRL_KEY else (LEFT_ALT, RIGHT_ALT, codes.ALT)
            )
            self._flag(bda.KEYBOARD_FLAGS if extended else bda.SHIFT_FLAGS_2, right if extended else left, pressed)
            down = self.area.byte(bda.SHIFT_FLAGS_2) & left or self.area.byte(bda.KEYBOARD_FLAGS) & right
            self._flag(bda.SHIFT_FLAGS, both, bool(down))
        elif key in TOGGLES and not extended:
            toggle, down = TOGGLES[key]
            if pressed and not self.area.byte(bda.SHIFT_FLAGS_2) & down:
                self.area.set_byte(bda.SHIFT_FLAGS, self.area.byte(bda.SHIFT_FLAGS) ^ toggle)
            self._flag(bda.SHIFT_FLAGS_2, down, pressed)
        else:
            if key == INSERT_KEY:
                self._insert(pressed=pressed, extended=extended)
            return False
        return True

    def _insert(self, *, pressed: bool, extended: bool) -> None:
        """Insert switches its flag when it is a key by itself, and not 0 on the keypad."""
        flags, down = self.area.byte(bda.SHIFT_FLAGS), self.area.byte(bda.SHIFT_FLAGS_2)
        shift = bool(flags & (codes.LEFT_SHIFT | codes.RIGHT_SHIFT))
        digit = not extended and bool(flags & codes.NUM_LOCK) is not shift
        if pressed and not digit and not down & INSERT_DOWN and not flags & (codes.CTRL | codes.ALT):
            self.area.set_byte(bda.SHIFT_FLAGS, flags ^ INSERT)
        self._flag(bda.SHIFT_FLAGS_2, INSERT_DOWN, pressed)

    def _flag(self, address: int, bit: int, on: bool) -> None:
        value = self.area.byte(address)
        self.area.set_byte(address, value | bit if on else value & ~bit)

    @service(0x15, 0x4F, "keyboard intercept: INT 9h asks before it takes a scan code; hook it to change one")
    def _intercept(self, call: Call) -> Outcome:
        return DONE  # the carry flag that INT 9h has set says that the key is to be taken

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

    @service(0x16, 0x02, "shift flags")
    def _shift_flags(self, call: Call) -> Outcome:
        call.regs.al = self.area.byte(bda.SHIFT_FLAGS)
        return POLLED

    @service(0x16, 0x12, "extended shift flags")
    def _extended_shift_flags(self, call: Call) -> Outcome:
        """AH says which of the keys are held down, left and right apart."""
        down = self.area.byte(bda.SHIFT_FLAGS_2)
        held = down & (LEFT_CTRL | LEFT_ALT | SCROLL_DOWN | NUM_DOWN | CAPS_DOWN)
        held |= self.area.byte(bda.KEYBOARD_FLAGS) & (RIGHT_CTRL | RIGHT_ALT)
        held |= 0x80 if down & SYSREQ_DOWN else 0
        call.regs.ax = held << 8 | self.area.byte(bda.SHIFT_FLAGS)
        return POLLED

    @service(0x16, 0x03, "set typematic rate (accepted, without effect)")
    def _set_typematic(self, call: Call) -> Outcome:
        return DONE

    @service(0x16, 0x05, "put a key into the buffer")
    def _push(self, call: Call) -> Outcome:
        call.regs.al = 0 if self.ring.append(call.regs.cx) else 1
        return DONE

    @service(0x16, 0x09, "which functions are there")
    def _functions(self, call: Call) -> Outcome:
        call.regs.al = FUNCTIONS
        return DONE

    @service(0x16, 0x0A, "keyboard identity")
    def _identity(self, call: Call) -> Outcome:
        call.regs.bx = KEYBOARD_ID
        return DONE

    def _read(self, call: Call, *, extended: bool) -> Outcome:
        key = self.ring.oldest(remove=True)
        if key is None:
            return WAIT
        call.regs.ax = key if extended else codes.classic(key)
        return DONE

    def _peek(self, call: Call, *, extended: bool) -> Outcome:
        key = self.ring.oldest(remove=False)
        call.set_flag(RFLAGS_ZF, key is None)
        if key is None:
            return POLLED
        call.regs.ax = key if extended else codes.classic(key)
        return DONE
