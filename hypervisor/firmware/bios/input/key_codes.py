"""What pressing a key means: the key word that INT 16h returns, for each scan code of set 1 and a US layout.

A key word has the scan code in its high byte and the ASCII code in its low one. Source: IBM PS/2 and PC BIOS Interface
Technical Reference, section 2, "Interrupt 16h", tables of keystrokes and scan codes.
"""

from __future__ import annotations

RIGHT_SHIFT, LEFT_SHIFT, CTRL, ALT, NUM_LOCK, CAPS_LOCK = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 6
RELEASED = 0x80
EXTENDED, PAUSE = 0xE0, 0xE1
"""Prefixes of scan codes; the first is also the ASCII code that marks keys which only the 101-key keyboard has."""

PLAIN = dict(enumerate("\x1b1234567890-=\b\tqwertyuiop[]\r", 1))
PLAIN |= dict(enumerate("asdfghjkl;'`", 0x1E)) | dict(enumerate("\\zxcvbnm,./", 0x2B))
PLAIN |= {0x37: "*", 0x39: " ", 0x4A: "-", 0x4E: "+", 0x56: "\\"}
SHIFTED = PLAIN | dict(enumerate("!@#$%^&*()_+", 2)) | dict(enumerate("QWERTYUIOP{}", 0x10))
SHIFTED |= dict(enumerate('ASDFGHJKL:"~', 0x1E)) | dict(enumerate("|ZXCVBNM<>?", 0x2B)) | {0x56: "|"}
KEYPAD = dict(enumerate("789\x00456\x001230.", 0x47))
del KEYPAD[0x4A], KEYPAD[0x4E]  # minus and plus, whatever Num Lock says

BY_CHARACTER = {character: code for table in (SHIFTED, PLAIN) for code, character in table.items() if code < 0x37}
BY_CHARACTER |= {"\n": 0x1C, "*": 0x09, "\x7f": 0x0E, " ": 0x39}

_SHIFT_WORDS = {0x0F: 0x0F00} | {0x3B + n: 0x5400 + (n << 8) for n in range(10)} | {0x57: 0x8700, 0x58: 0x8800}
_CTRL_WORDS = (
    {code: code << 8 | ord(character) & 0x1F for code, character in PLAIN.items() if character.isalpha()}
    | {0x03: 0x0300, 0x07: 0x071E, 0x0C: 0x0C1F, 0x1A: 0x1A1B, 0x1B: 0x1B1D, 0x2B: 0x2B1C}
    | {0x01: 0x011B, 0x0E: 0x0E7F, 0x0F: 0x9400, 0x1C: 0x1C0A, 0x39: 0x3920, 0x37: 0x9600}
    | {0x47 + n: code << 8 for n, code in enumerate(bytes.fromhex("778d848e738f74907591769293"))}
    | {0x3B + n: 0x5E00 + (n << 8) for n in range(10)}
    | {0x57: 0x8900, 0x58: 0x8A00}
)
_ALT_WORDS = (
    {code: code << 8 for code in PLAIN if code not in (0x39, 0x56)}
    | {0x02 + n: 0x7800 + (n << 8) for n in range(12)}
    | {0x0F: 0xA500, 0x39: 0x3920, 0x57: 0x8B00, 0x58: 0x8C00}
    | {0x3B + n: 0x6800 + (n << 8) for n in range(10)}
)
_PLAIN_WORDS = {0x3B + n: 0x3B00 + (n << 8) for n in range(10)} | {0x57: 0x8500, 0x58: 0x8600}
_LIKE_MAIN = {
    0x1C: {0: 0xE00D, CTRL: 0xE00A, ALT: 0xA600},
    0x35: {0: 0xE02F, CTRL: 0x9500, ALT: 0xA400},
}
"""The keypad's Enter and slash."""


def translate(code: int, flags: int, *, extended: bool = False) -> int | None:
    """The key that pressing scan code ``code`` gives with the shift flags of 0040:0017, or None if it gives none."""
    held = ALT if flags & ALT else flags & CTRL
    shift = bool(flags & (RIGHT_SHIFT | LEFT_SHIFT))
    if extended:
        return _extended(code, held)
    if held:
        return (_ALT_WORDS if held == ALT else _CTRL_WORDS).get(code)
    if code in KEYPAD:
        return code << 8 | (ord(KEYPAD[code]) if bool(flags & NUM_LOCK) is not shift else 0)
    if shift and code in _SHIFT_WORDS:
        return _SHIFT_WORDS[code]
    if code in _PLAIN_WORDS:
        return _PLAIN_WORDS[code]
    if code not in PLAIN:
        return None
    if PLAIN[code].isalpha() and flags & CAPS_LOCK:
        shift = not shift
    return code << 8 | ord((SHIFTED if shift else PLAIN)[code])


def _extended(code: int, held: int) -> int | None:
    if code in _LIKE_MAIN:
        return _LIKE_MAIN[code][held]
    if code not in KEYPAD or code == 0x4C:
        return None
    if held == ALT:
        return code + 0x50 << 8
    return (_CTRL_WORDS[code] if held else code << 8) | EXTENDED


def classic(key: int) -> int:
    """A key as functions 00h and 01h show it: the 101-key keyboard's extra keys look like those of the 84-key one."""
    scan, ascii_code = key >> 8, key & 0xFF
    if scan == EXTENDED:
        return (0x3500 if ascii_code == ord("/") else 0x1C00) | ascii_code
    return key & 0xFF00 if ascii_code == EXTENDED and scan else key
