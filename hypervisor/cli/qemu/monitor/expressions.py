"""Expressions of the monitor: numbers, registers such as ``$eip``, ``+ - * / % & | ^ ( ) ~``, as QEMU reads them."""

from __future__ import annotations

import re
from typing import Any

from hypervisor.errors import ConfigError

_WORDS = re.compile(r"\s*(0x[0-9a-fA-F]+|\d+|\$[A-Za-z_0-9.]+|'.'|[-+*/%&|^()~])")
_LEVELS = (("+", "-"), ("&", "|", "^"), ("*", "/", "%"))
"""From the loosest to the tightest, as QEMU's parser nests them (``monitor/hmp.c``, get_expr)."""
_MASK = (1 << 64) - 1
_LONGEST = 256
_NAMES = {"pc": "linear_rip", "sp": "rsp", "eip": "rip", "eflags": "rflags", "efl": "rflags"}


def value(text: str, vcpu: Any) -> int:
    """The value of an expression, of 64 bits. Raises `NoExpression`."""
    if len(text) > _LONGEST:
        raise NoExpression(f"an expression has at most {_LONGEST} characters.")
    words, at = [], 0
    while text[at:].strip():
        found = _WORDS.match(text, at)
        if found is None:
            raise NoExpression(f"{text!r}: {text[at:].strip()[:1]!r} is not understood.")
        words.append(found[1])
        at = found.end()
    parser = _Parser(words, vcpu)
    result = parser.level(0)
    if parser.left:
        raise NoExpression(f"{text!r}: {parser.left[0]!r} is one too many.")
    return result & _MASK


class NoExpression(ConfigError):
    """A text that is no expression, or has no value."""


class _Parser:
    def __init__(self, words: list[str], vcpu: Any) -> None:
        self.left, self._vcpu = words, vcpu

    def level(self, number: int) -> int:
        if number == len(_LEVELS):
            return self._unary()
        result = self.level(number + 1)
        while self.left and self.left[0] in _LEVELS[number]:
            operator = self.left.pop(0)
            result = _applied(operator, result, self.level(number + 1))
        return result

    def _unary(self) -> int:
        word = self.left.pop(0) if self.left else ""
        match word[:1]:
            case "+":
                return self._unary()
            case "-":
                return -self._unary() & _MASK
            case "~":
                return ~self._unary() & _MASK
            case "(":
                inner = self.level(0)
                if not self.left or self.left.pop(0) != ")":
                    raise NoExpression("')' expected")
                return inner
            case "$":
                return _register(word[1:].lower(), self._vcpu)
            case "'":
                return ord(word[1])
        if not word or not word[0].isdigit():
            raise NoExpression("invalid expression: a number or a register is missing.")
        return _number(word)


def _number(word: str) -> int:
    """As C reads it: a leading zero means octal."""
    if word.startswith("0x"):
        return int(word, 16)
    try:
        return int(word, 8 if word.startswith("0") else 10)
    except ValueError:
        raise NoExpression(f"{word!r} is no number.") from None


def _applied(operator: str, left: int, right: int) -> int:
    match operator:
        case "+":
            return left + right & _MASK
        case "-":
            return left - right & _MASK
        case "*":
            return left * right & _MASK
        case "&":
            return left & right
        case "|":
            return left | right
        case "^":
            return left ^ right
    if right == 0:
        raise NoExpression("division by zero")
    return left // right if operator == "/" else left % right


def _register(name: str, vcpu: Any) -> int:
    known = _NAMES.get(name, name)
    if known == "linear_rip":
        return int(vcpu.linear_rip)
    if name in ("es", "cs", "ss", "ds", "fs", "gs", "tr", "ldtr"):
        return int(getattr(vcpu, name).selector)
    try:
        return int(vcpu.get(known))
    except (AttributeError, KeyError, ConfigError):
        raise NoExpression("unknown register") from None
