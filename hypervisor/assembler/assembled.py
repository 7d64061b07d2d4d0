"""From statements to a flat image: addresses, symbols, directives. Passes repeat until no address moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from hypervisor.assembler.encode import encode
from hypervisor.assembler.expression import evaluate, unescape
from hypervisor.assembler.fixes import has_short_form
from hypervisor.assembler.operand import REGISTERS, split
from hypervisor.assembler.problem import AssemblyError
from hypervisor.assembler.source import Statement

_PASSES = 60
_LIMIT = 64 << 20
_DATA = {".byte": 1, ".word": 2, ".dword": 4, ".long": 4, ".qword": 8, ".quad": 8}


class Line(NamedTuple):
    """One statement that made bytes. ``mode`` is 16, 32 or 64 for an instruction and 0 for data."""

    address: int
    code: bytes
    mode: int
    line: int
    text: str


@dataclass(frozen=True)
class Image:
    """A flat image: ``code`` belongs at ``origin``; symbols are absolute; the listing holds each statement's bytes."""

    origin: int
    code: bytes
    symbols: dict[str, int]
    listing: list[Line]


@dataclass
class Layout:
    """Places the statements, over and over, until the symbols of one pass are those of the pass before."""

    statements: list[Statement]
    origin: int
    mode: int
    symbols: dict[str, int] = field(default_factory=dict)
    _long: set[int] = field(default_factory=set)
    _final: bool = False
    _guessed: bool = False

    def run(self) -> Image:
        """The finished image; raises `AssemblyError`."""
        for _ in range(_PASSES):
            before = dict(self.symbols)
            self._pass()
            if self.symbols == before:
                break
        else:
            raise AssemblyError("The addresses in this source do not settle; does a size depend on itself?")
        self._final = True
        return self._pass()

    def _pass(self) -> Image:
        cursor = _Cursor(self.origin, self.mode)
        seen: dict[str, Statement] = {}
        for index, statement in enumerate(self.statements):
            self._guessed = False
            try:
                if statement.kind == "label":
                    self._define(statement.text, cursor.address, statement, seen)
                elif statement.kind == "directive":
                    self._directive(statement, cursor, seen)
                else:
                    cursor.put(self._instruction(index, statement.text, cursor), statement, cursor.mode)
            except AssemblyError as problem:
                if self._guessed and statement.kind == "instruction":  # a forward name's value is not known yet
                    cursor.put(b"\x90" * 8, statement, cursor.mode)
                    continue
                if str(problem).startswith(f"{statement.file}:"):
                    raise
                raise statement.fail(str(problem)) from None
        return Image(cursor.origin, bytes(cursor.code), dict(self.symbols), cursor.listing)

    def _instruction(self, index: int, text: str, cursor: _Cursor) -> bytes:
        short = index not in self._long
        code = encode(text, cursor.mode, cursor.address, lambda name: self._value(name, cursor), short=short)
        # A jump that once needed its long form keeps it: lengths only grow, so the passes come to an end.
        if len(code) > 2 and has_short_form(text.partition(" ")[0].lower()):
            self._long.add(index)
        return code

    def _value(self, name: str, cursor: _Cursor) -> int:
        if name == "$":
            return cursor.address
        if name in self.symbols:
            return self.symbols[name]
        if name.lower() in REGISTERS:
            raise AssemblyError(f"The register {name} cannot be used like this.")
        if self._final:
            raise AssemblyError(f"{name} is not defined; define it with a label or with .equ {name}, VALUE.")
        self._guessed = True
        return cursor.address

    def _define(self, name: str, value: int, statement: Statement, seen: dict[str, Statement]) -> None:
        if name in seen:
            first = seen[name]
            raise statement.fail(f"{name} is already defined at {first.file}:{first.line}.")
        if name.lower() in REGISTERS:
            raise statement.fail(f"{name} is the name of a register.")
        seen[name] = statement
        self.symbols[name] = value

    def _directive(self, statement: Statement, cursor: _Cursor, seen: dict[str, Statement]) -> None:
        word, _, rest = statement.text.partition(" ")
        arguments = split(rest)

        def number(position: int, default: int | None = None) -> int:
            if position < len(arguments):
                return evaluate(arguments[position], lambda name: self._value(name, cursor))
            if default is None:
                raise AssemblyError(f"{word} needs a value.")
            return default

        if word in (".code16", ".code32", ".code64"):
            cursor.mode = int(word[5:])
        elif word == ".equ":
            if len(arguments) != 2:
                raise AssemblyError(".equ takes a name and a value: .equ NAME, VALUE.")
            self._define(arguments[0], number(1), statement, seen)
        elif word in _DATA:
            size = _DATA[word]
            values = [number(position) for position in range(len(arguments))] or [number(0)]
            cursor.put(b"".join(_datum(value, size, word) for value in values), statement, 0)
        elif word in (".ascii", ".asciz"):
            for argument in arguments:
                if len(argument) < 2 or argument[0] != '"' or argument[-1] != '"':
                    raise AssemblyError(f"{word} takes text in double quotes.")
            tail = b"\0" if word == ".asciz" else b""
            cursor.put(b"".join(unescape(argument[1:-1]) + tail for argument in arguments), statement, 0)
        elif word == ".skip":
            cursor.fill(number(0), number(1, 0), statement)
        elif word == ".align":
            cursor.fill(-cursor.address % max(number(0), 1), number(1, 0), statement)
        elif word == ".org":
            cursor.move_to(number(0), statement)
        elif word == ".bss":
            cursor.bss = True
        else:
            raise AssemblyError(f"{word} is not a directive of this assembler.")


@dataclass
class _Cursor:
    origin: int
    mode: int
    code: bytearray = field(default_factory=bytearray)
    listing: list[Line] = field(default_factory=list)
    bss: bool = False
    address: int = -1

    def __post_init__(self) -> None:
        self.address = self.origin

    def put(self, code: bytes, statement: Statement, mode: int) -> None:
        if self.bss:
            raise AssemblyError("After .bss the image has no bytes; only labels, .skip, .align and .org may follow.")
        self.listing.append(Line(self.address, code, mode, statement.line, statement.text))
        self.code += code
        self.address += len(code)

    def fill(self, size: int, value: int, statement: Statement) -> None:
        if not 0 <= size <= _LIMIT:
            raise AssemblyError(f"{size} bytes cannot be skipped; the limit is 0 to {_LIMIT >> 20} MiB.")
        if self.bss:
            self.address += size
        elif size:
            self.put(_datum(value, 1, ".skip") * size, statement, 0)

    def move_to(self, address: int, statement: Statement) -> None:
        if not self.code and not self.bss:
            self.origin = self.address = address
        elif address < self.address:
            beyond = self.address - address
            raise AssemblyError(f"The position is already {self.address:#x}, {beyond} bytes beyond {address:#x}.")
        else:
            self.fill(address - self.address, 0, statement)


def _datum(value: int, size: int, word: str) -> bytes:
    if not -(1 << (8 * size - 1)) <= value < 1 << 8 * size:
        raise AssemblyError(f"{value:#x} does not fit into the {size} bytes of {word}.")
    return (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
