"""Instructions that this assembler encodes itself, as data. Source: AMD64 manual volume 3, appendix A (opcode maps).

Keystone 0.9.2 mis-encodes or refuses them: it gives 16-bit code 32-bit returns and pushes, takes the wrong operand size
for IRET, PUSHF and SYSRET, refuses ``rep movsd``, and silently assembles ``cqo`` as ``cdq`` outside 64-bit code.
"""

from __future__ import annotations

DEFAULT = 0
"""Operand size: the mode's own, no prefix."""

CONDITIONS = {
    name: code
    for code, names in enumerate(
        ("o", "no", "b c nae", "ae nb nc", "e z", "ne nz", "be na", "a nbe", "s", "ns", "p pe", "np po", "l nge",
         "ge nl", "le ng", "g nle")
    )
    for name in names.split()
}  # fmt: skip
"""Condition suffixes with their 4-bit codes."""

LOOPS = {"loopne": 0xE0, "loopnz": 0xE0, "loope": 0xE1, "loopz": 0xE1, "loop": 0xE2}
COUNT_JUMPS = {"jcxz": 16, "jecxz": 32, "jrcxz": 64}
"""Jumps on a zero count register, with the register's size in bits (it is the instruction's address size)."""

PREFIXES = {"lock": b"\xf0", "rep": b"\xf3", "repe": b"\xf3", "repz": b"\xf3", "repne": b"\xf2", "repnz": b"\xf2"}
OPERAND_PREFIXES = {"o16": 16, "o32": 32, "o64": 64}
"""Words before a mnemonic that give its operand size in bits: ``o32 lgdt [table]`` in 16-bit code."""

SEGMENT_PUSH_POP = {
    ("push", "es"): b"\x06", ("pop", "es"): b"\x07", ("push", "cs"): b"\x0e", ("push", "ss"): b"\x16",
    ("pop", "ss"): b"\x17", ("push", "ds"): b"\x1e", ("pop", "ds"): b"\x1f", ("push", "fs"): b"\x0f\xa0",
    ("pop", "fs"): b"\x0f\xa1", ("push", "gs"): b"\x0f\xa8", ("pop", "gs"): b"\x0f\xa9",
}  # fmt: skip


def _fixed() -> dict[str, tuple[bytes, int]]:
    table = {
        "ret": (b"\xc3", DEFAULT), "retf": (b"\xcb", DEFAULT), "retfw": (b"\xcb", 16), "retfd": (b"\xcb", 32),
        "retfq": (b"\xcb", 64), "iret": (b"\xcf", DEFAULT), "iretw": (b"\xcf", 16), "iretd": (b"\xcf", 32),
        "iretq": (b"\xcf", 64), "cbw": (b"\x98", 16), "cwde": (b"\x98", 32), "cdqe": (b"\x98", 64),
        "cwd": (b"\x99", 16), "cdq": (b"\x99", 32), "cqo": (b"\x99", 64), "xlatb": (b"\xd7", DEFAULT),
        "sysret": (b"\x0f\x07", DEFAULT), "sysretq": (b"\x0f\x07", 64), "sysexit": (b"\x0f\x35", DEFAULT),
        "sysexitq": (b"\x0f\x35", 64), "vmrun": (b"\x0f\x01\xd8", DEFAULT), "vmload": (b"\x0f\x01\xda", DEFAULT),
        "vmsave": (b"\x0f\x01\xdb", DEFAULT), "skinit": (b"\x0f\x01\xde", DEFAULT),
        "invlpga": (b"\x0f\x01\xdf", DEFAULT), "swapgs": (b"\x0f\x01\xf8", DEFAULT), "into": (b"\xce", DEFAULT),
    }  # fmt: skip
    for name, opcode in (("pushf", 0x9C), ("popf", 0x9D), ("pusha", 0x60), ("popa", 0x61)):
        table[name] = (bytes([opcode]), DEFAULT)
        table |= {name + letter: (bytes([opcode]), size) for letter, size in (("w", 16), ("d", 32))}
    table |= {"pushfq": (b"\x9c", DEFAULT), "popfq": (b"\x9d", DEFAULT)}  # 64 bits are their default in 64-bit code
    strings = {"ins": 0x6C, "outs": 0x6E, "movs": 0xA4, "cmps": 0xA6, "stos": 0xAA, "lods": 0xAC, "scas": 0xAE}
    for name, opcode in strings.items():
        table[name + "b"] = (bytes([opcode]), DEFAULT)
        sizes = (("w", 16), ("d", 32), ("q", 64)) if opcode >= 0xA4 else (("w", 16), ("d", 32))
        table |= {name + letter: (bytes([opcode + 1]), size) for letter, size in sizes}
    return table


FIXED = _fixed()
"""Instructions without operands: opcode bytes and operand size in bits."""

ONLY_64 = frozenset({"swapgs", "pushfq", "popfq", "jrcxz"})
NOT_64 = frozenset({
    "into", "pushfd", "popfd", "pusha", "pushaw", "pushad", "popa", "popaw", "popad", "jcxz", "les", "lds", "daa",
    "das", "aaa", "aas", "aam", "aad", "salc", "bound", "arpl",
})  # fmt: skip
IMPLIED = {"vmrun": "a", "vmload": "a", "vmsave": "a", "skinit": "eax", "invlpga": "a,ecx"}
"""SVM instructions may name the registers they use anyway; ``a`` is AX of the mode's address size."""

COUNT_OPERAND = frozenset({
    "shl", "shr", "sal", "sar", "rol", "ror", "rcl", "rcr", "shld", "shrd", "bt", "bts", "btr", "btc", "enter",
    "in", "out", "int",
})  # fmt: skip
"""Instructions whose constant is a byte (ENTER: a word), whatever the other operand's size."""
