"""The keys of a US keyboard by name, and the scan codes (set 2) that they send. The names include those of QEMU.

Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-key)", scan code set 2.
"""

from __future__ import annotations

from hypervisor.errors import ConfigError

BREAK, EXTENDED = 0xF0, 0xE0
"""Prefixes: of a key that is released, and of keys that only the 101-key keyboard has."""

SET_2 = bytes.fromhex(
    "76"  # set 1 code 01h: escape
    + "161e26252e363d3e46454e55660d"  # 02h: 1 to 0, minus, equals, backspace, tab
    + "151d242d2c353c43444d545b5a14"  # 10h: q to p, brackets, enter, control
    + "1c1b232b34333b424b4c520e125d"  # 1eh: a to l, semicolon, quote, grave, shift, backslash
    + "1a22212a32313a41494a597c1129"  # 2ch: z to slash, right shift, keypad *, alt, space
    + "580506040c030b830a0109777e"  # 3ah: caps lock, F1 to F10, num lock, scroll lock
    + "6c757d7b6b73747969727a7071"  # 47h: keypad
    + "8460617807"  # 54h: system request, two unnamed, F11, F12
)
"""Scan code set 2 of the keys in the order of their set 1 codes, from 01h to 58h."""

_TO_SET_1 = bytearray(range(256))
_TO_SET_1[:0x80] = bytes.fromhex(
    "ff43413f3d3b3c58644442403e0f2959"
    + "65382a701d10025a66712c1f1e11035b"
    + "672e2d201205045c68392f211413065d"
    + "693130232215075e6a7232241608095f"
    + "6b332517180b0a606c34352627190c61"
    + "6d7328741a0d626e3a361c1b752b6376"
    + "55567778797a0e7b7c4f7d4b477e7f6f"
    + "5253504c4d480145574e514a37494654"
)
_TO_SET_1[0x83], _TO_SET_1[0x84] = 0x41, 0x54
"""What the controller makes of each byte of set 2 (IBM PS/2 Hardware Interface Technical Reference, "Scan code
translation"): codes of no key are translated as well, and answers of the keyboard pass.
"""

SHIFT = 0x12
_PLAIN = "\x1b1234567890-=\b\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./\0\0\0 "
_SHIFTED = '\0!@#$%^&*()_+\0\0QWERTYUIOP{}\0\0ASDFGHJKL:"~\0|ZXCVBNM<>?'
_KEYS = {char: (SET_2[at], shift) for shift, row in ((False, _PLAIN), (True, _SHIFTED)) for at, char in enumerate(row)}
del _KEYS["\0"]

_BY_SET_1 = {
    "esc": 0x01, "minus": 0x0C, "equal": 0x0D, "backspace": 0x0E, "tab": 0x0F, "enter": 0x1C, "ctrl": 0x1D,
    "shift": 0x2A, "backslash": 0x2B, "shift_r": 0x36, "kp_multiply": 0x37, "alt": 0x38, "space": 0x39,
    "caps_lock": 0x3A, "num_lock": 0x45, "scroll_lock": 0x46, "kp_7": 0x47, "kp_8": 0x48, "kp_9": 0x49,
    "kp_subtract": 0x4A, "kp_4": 0x4B, "kp_5": 0x4C, "kp_6": 0x4D, "kp_add": 0x4E, "kp_1": 0x4F, "kp_2": 0x50,
    "kp_3": 0x51, "kp_0": 0x52, "kp_decimal": 0x53, "sysrq": 0x54, "less": 0x56, "f11": 0x57, "f12": 0x58,
    "bracket_left": 0x1A, "bracket_right": 0x1B, "semicolon": 0x27, "apostrophe": 0x28, "grave_accent": 0x29,
    "comma": 0x33, "dot": 0x34, "slash": 0x35,
    **{f"f{number}": 0x3A + number for number in range(1, 11)},
}  # fmt: skip
_EXTENDED = {
    "ctrl_r": 0x14, "alt_r": 0x11, "kp_divide": 0x4A, "kp_enter": 0x5A, "insert": 0x70, "delete": 0x71, "home": 0x6C,
    "end": 0x69, "pgup": 0x7D, "pgdn": 0x7A, "up": 0x75, "down": 0x72, "left": 0x6B, "right": 0x74, "meta_l": 0x1F,
    "meta_r": 0x27, "menu": 0x2F,
}  # fmt: skip
_SEQUENCES = {
    "print": (b"\xe0\x12\xe0\x7c", b"\xe0\xf0\x7c\xe0\xf0\x12"),
    "break": (b"\xe0\x7e\xe0\xf0\x7e", b""),  # what the pause key sends while Ctrl is held
    "pause": (b"\xe1\x14\x77\xe1\xf0\x14\xf0\x77", b""),  # no code when it is released
}
_ALIASES = {
    "del": "delete", "escape": "esc", "return": "enter", "ret": "enter", "ins": "insert", "win": "meta_l",
    "spc": "space", "compose": "menu",
}  # fmt: skip

KEYS: dict[str, tuple[bytes, bytes]] = {
    **{name: (bytes((SET_2[code - 1],)), bytes((BREAK, SET_2[code - 1]))) for name, code in _BY_SET_1.items()},
    **{name: (bytes((EXTENDED, code)), bytes((EXTENDED, BREAK, code))) for name, code in _EXTENDED.items()},
    **_SEQUENCES,
}
"""What pressing and what releasing a key sends, in set 2."""


def to_set_1(code: int) -> int:
    """The set 1 code that the controller's translation makes of a byte of set 2 (or of an answer)."""
    return _TO_SET_1[code]


def strokes(char: str) -> bytes:
    """Set 2 bytes that press and release the keys for ``char``; raises `ConfigError` if no key types it."""
    if char not in _KEYS:
        raise ConfigError(f"No key of a US keyboard types {char!r}.")
    code, shift = _KEYS[char]
    stroke = bytes((code, BREAK, code))
    return bytes((SHIFT, *stroke, BREAK, SHIFT)) if shift else stroke


def codes(key: str) -> tuple[bytes, bytes]:
    """What pressing and releasing ``key`` sends: a name of `KEYS`, or a character that needs no shift.

    Raises `ConfigError` for what is neither.
    """
    if not isinstance(key, str) or not key:
        raise ConfigError(f"{key!r} is no key: give a character, or a name such as 'ctrl'.")
    name = key.lower() if len(key) > 1 else key
    name = _ALIASES.get(name, name)
    if name in KEYS:
        return KEYS[name]
    if len(key) == 1:
        stroke = strokes(key)
        if len(stroke) == 3:  # make, break prefix, code
            return stroke[:1], stroke[1:]
        raise ConfigError(f"{key!r} is on no key by itself; press('shift', ...) with the key, or type({key!r}).")
    raise ConfigError(f"There is no key {key!r}; there are single characters and {', '.join(sorted(KEYS))}.")
