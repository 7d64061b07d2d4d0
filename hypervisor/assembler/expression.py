"""Integer expressions of the assembler: ``(end - start + 511) / 512``, ``'A'``, ``1 << 20 | 3``, ``$ + 4``.

C's operators and precedence over Python's unbounded integers; ``$`` (or ``.``) is the address of the current statement.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from hypervisor.assembler.problem import AssemblyError

Lookup = Callable[[str], int]
"""Value of a symbol; raises `AssemblyError` when there is none."""

NAME = r"\.?[A-Za-z_][\w.]*"
_NUMBER = r"0[xX][0-9a-fA-F_]+|0[bB][01_]+|\d[\d_]*"
_TOKEN = re.compile(rf"\s*(?:({_NUMBER})|('(?:\\.|[^\\])')|({NAME}|[$.])|(<<|>>|[-+*/%&|^~()]))")
_ESCAPES = {"n": 10, "r": 13, "t": 9, "0": 0, "\\": 92, "'": 39, '"': 34}
_BINARY: tuple[dict[str, Callable[[int, int], int]], ...] = (  # loosest first
    {"|": operator.or_},
    {"^": operator.xor},
    {"&": operator.and_},
    {"<<": operator.lshift, ">>": operator.rshift},
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "/": operator.floordiv, "%": operator.mod},
)


def evaluate(text: str, lookup: Lookup) -> int:
    """Value of the expression ``text``; names go through ``lookup``. Raises `AssemblyError` with a sentence."""
    tokens = _tokens(text)
    value = _binary(tokens, 0, lookup, text)
    if tokens:
        raise AssemblyError(f"{tokens[0]!r} does not belong here in the expression {text.strip()!r}.")
    return value


def unescape(body: str) -> bytes:
    """Bytes of the inside of a quoted string (escapes ``\\n \\r \\t \\0 \\\\ \\' \\"``; text is encoded as UTF-8)."""

    def replace(match: re.Match[str]) -> str:
        code = _ESCAPES.get(match[1])
        if code is None:
            raise AssemblyError(f"\\{match[1]} is not an escape; the escapes are \\n \\r \\t \\0 \\\\ \\' and \\\".")
        return chr(code)

    return re.sub(r"\\(.)", replace, body).encode()


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise AssemblyError(f"{text[position:].strip()!r} is not part of an expression I can read.")
        tokens.append(match[0].strip() if match[2] is None else match[2])
        position = match.end()
    return tokens


def _binary(tokens: list[str], level: int, lookup: Lookup, text: str) -> int:
    if level == len(_BINARY):
        return _unary(tokens, lookup, text)
    value = _binary(tokens, level + 1, lookup, text)
    while tokens and tokens[0] in _BINARY[level]:
        apply = _BINARY[level][tokens.pop(0)]
        right = _binary(tokens, level + 1, lookup, text)
        try:
            value = apply(value, right)
        except (ZeroDivisionError, ValueError, OverflowError) as problem:
            raise AssemblyError(f"The expression {text.strip()!r} has no value: {problem}.") from None
    return value


def _unary(tokens: list[str], lookup: Lookup, text: str) -> int:
    if not tokens:
        raise AssemblyError(f"A number or a name is missing in the expression {text.strip()!r}.")
    token = tokens.pop(0)
    if token == "-":
        return -_unary(tokens, lookup, text)
    if token == "+":
        return _unary(tokens, lookup, text)
    if token == "~":
        return ~_unary(tokens, lookup, text)
    if token == "(":
        value = _binary(tokens, 0, lookup, text)
        if not tokens or tokens.pop(0) != ")":
            raise AssemblyError(f"A closing parenthesis is missing in the expression {text.strip()!r}.")
        return value
    if token[0] == "'":
        return unescape(token[1:-1])[0]
    if token[0].isdigit():
        try:
            return int(token.replace("_", ""), 0)
        except ValueError:
            raise AssemblyError(f"{token!r} is not a number; write 10, 0x0a or 0b1010.") from None
    if re.fullmatch(rf"{NAME}|[$.]", token):
        return lookup("$" if token == "." else token)
    raise AssemblyError(f"{token!r} does not belong here in the expression {text.strip()!r}.")
