"""The keys of a US keyboard by name, and the scan codes (set 2) that they send. The names include those of QEMU.

Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-key)", scan code set 2.
"""

from __future__ import annotations

from hypervisor.devices._keyboard import BREAK, SET_2, strokes
from hypervisor.errors import ConfigError

EXTENDED = 0xE0

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


def codes(key: str) -> tuple[bytes, bytes]:
    """What pressing and releasing ``key`` sends: a name of `KEYS`, or a character that needs no shift.

    Raises `ConfigError` for what is neither.
    """
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
