"""Operands in Intel syntax, parsed into values that can be rendered for Keystone and compared with a disassembly."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hypervisor.assembler.expression import Lookup, evaluate
from hypervisor.assembler.problem import AssemblyError

SIZES = {"byte": 8, "word": 16, "dword": 32, "fword": 48, "qword": 64, "tbyte": 80, "xmmword": 128}
"""Size words and what they mean, in bits."""
SIZE_WORDS = {bits: word for word, bits in SIZES.items()}
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")


def _registers() -> dict[str, int]:
    sizes: dict[str, int] = {}
    for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip"):
        sizes |= {name: 16, "e" + name: 32, "r" + name: 64}
    for name in "abcd":
        sizes |= {name + "l": 8, name + "h": 8}
    for name in ("si", "di", "bp", "sp"):
        sizes[name + "l"] = 8
    for number in range(8, 16):
        sizes |= {f"r{number}": 64, f"r{number}d": 32, f"r{number}w": 16, f"r{number}b": 8}
    for number in range(16):
        sizes |= {f"cr{number}": 0, f"dr{number}": 0, f"xmm{number}": 128}
    for number in range(8):
        sizes |= {f"mm{number}": 64, f"st{number}": 80}
    return sizes | dict.fromkeys(SEGMENTS, 16)


REGISTERS = _registers()
"""Register names with their sizes in bits (0: the mode decides, as for control and debug registers)."""


@dataclass(frozen=True)
class Reg:
    """A register."""

    name: str

    def render(self) -> str:
        """The operand as Keystone reads it."""
        return self.name


@dataclass(frozen=True)
class Imm:
    """A constant; ``size`` in bits when the source names one, else 0; ``hint`` is ``short`` or ``near`` or empty."""

    value: int
    size: int = 0
    hint: str = ""

    def render(self) -> str:
        """The operand as Keystone reads it."""
        return hex(self.value)


@dataclass(frozen=True)
class Far:
    """A far pointer ``selector:offset``; ``size`` of the offset in bits when the source names one, else 0."""

    selector: int
    offset: int
    size: int = 0


@dataclass(frozen=True)
class Mem:
    """A memory operand. ``relative``: ``disp`` is the target, to be reached from RIP (``[rel name]``)."""

    base: str = ""
    index: str = ""
    scale: int = 1
    disp: int = 0
    segment: str = ""
    size: int = 0
    far: bool = False
    relative: bool = False

    def render(self, disp: int | None = None) -> str:
        """The operand as Keystone reads it, with another displacement if one is given."""
        disp = self.disp if disp is None else disp
        terms = [self.base] if self.base else []
        if self.index:
            terms.append(f"{self.index}*{self.scale}")
        text = "+".join(terms)
        if disp or not terms:
            text += f"{'-' if disp < 0 else '+' if terms else ''}{abs(disp):#x}"
        size = f"{SIZE_WORDS[self.size]} ptr " if self.size else ""
        return f"{size}{self.segment + ':' if self.segment else ''}[{text}]"


Operand = Reg | Imm | Far | Mem


def split(text: str, separator: str = ",") -> list[str]:
    """``text`` cut at each ``separator`` outside quotes, brackets, braces and parentheses; parts are stripped."""
    parts, depth, quote, start, position = [], 0, "", 0, 0
    while position < len(text):
        letter = text[position]
        if quote:
            if letter == "\\":
                position += 1
            elif letter == quote:
                quote = ""
        elif letter in "\"'":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == separator and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
        position += 1
    if quote:
        raise AssemblyError(f"A closing {quote} is missing.")
    rest = text[start:].strip()
    return [*parts, rest] if rest or parts else []


def parse_operand(text: str, lookup: Lookup) -> Operand:
    """The operand written as ``text``; raises `AssemblyError` with a sentence."""
    size, hint, far = 0, "", False
    while match := re.match(r"(\w+)\s+(?=[^\s])", text):
        word = match[1].lower()
        if word in SIZES:
            size = SIZES[word]
        elif word in ("short", "near"):
            hint = word
        elif word == "far":
            far = True
        elif word != "ptr":
            break
        text = text[match.end() :]
    if text.lower() in REGISTERS:
        return Reg(text.lower())
    if "[" in text and not text.startswith("'"):
        return _memory(text, size, far, lookup)
    parts = split(text, ":")
    if len(parts) == 2:
        return Far(evaluate(parts[0], lookup), evaluate(parts[1], lookup), size)
    if not text:
        raise AssemblyError("An operand is missing between two commas.")
    return Imm(evaluate(text, lookup), size, hint)


def _memory(text: str, size: int, far: bool, lookup: Lookup) -> Mem:
    match = re.fullmatch(r"(?:(\w+)\s*:)?\s*\[\s*(?:(\w+)\s*:)?\s*(rel\s)?(.*)\]", text, re.IGNORECASE)
    if match is None:
        raise AssemblyError(f"{text!r} is not a memory operand; write size segment:[base + index*scale + number].")
    segment = (match[1] or match[2] or "").lower()
    if segment and segment not in SEGMENTS:
        raise AssemblyError(f"{segment!r} is not a segment register.")
    base, index, scale, constants = "", "", 1, []
    for sign, term in _terms(match[4]):
        register, factor = _scaled(term, lookup)
        if not register:
            constants.append(f"{sign}({term})")
        elif sign == "-":
            raise AssemblyError(f"A register cannot be subtracted in {text!r}.")
        elif factor == 1 and not base:
            base = register
        elif not index:
            index, scale = register, factor
        else:
            raise AssemblyError(f"{text!r} has too many registers; an address is base + index*scale + number.")
    if scale not in (1, 2, 4, 8):
        raise AssemblyError(f"{scale} is not a scale; an index can be multiplied by 1, 2, 4 or 8.")
    disp = evaluate("".join(constants), lookup) if constants else 0
    return Mem(base, index, scale, disp, segment, size, far, bool(match[3]))


def _terms(text: str) -> list[tuple[str, str]]:
    """Signed top-level terms of a sum: ``ebx + ecx*4 - 8`` gives ``+ebx``, ``+ecx*4``, ``-8``."""
    terms, depth, start, sign, position = [], 0, 0, "+", 0
    while position < len(text):
        letter = text[position]
        if letter == "'":
            position = text.find("'", position + 1)
            if position < 0:
                raise AssemblyError("A closing ' is missing.")
        depth += (letter == "(") - (letter == ")")
        before = text[start:position].strip()
        if letter in "+-" and depth == 0 and before and before[-1] not in "*/%&|^<>~":
            terms.append((sign, before))
            sign, start = letter, position + 1
        position += 1
    return [*terms, (sign, text[start:].strip())]


def _scaled(term: str, lookup: Lookup) -> tuple[str, int]:
    if term.lower() in REGISTERS:
        return term.lower(), 1
    left, star, right = (part.strip() for part in term.partition("*"))
    if star and left.lower() in REGISTERS:
        return left.lower(), evaluate(right, lookup)
    if star and right.lower() in REGISTERS:
        return right.lower(), evaluate(left, lookup)
    return "", 0
