"""From text to statements: comments, ``;``, labels, ``.include``, ``.macro`` and ``.rept``.

A label that starts with a dot is local to the label before it: ``.again`` after ``main`` is ``main.again``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hypervisor.assembler.expression import NAME, evaluate
from hypervisor.assembler.operand import split
from hypervisor.assembler.problem import AssemblyError

_LABEL = re.compile(rf"({NAME})\s*:(?!:)\s*")
_LOCAL = re.compile(r"(?<![\w.$])\.[A-Za-z_]\w*")
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\\])\'')
_DEPTH_LIMIT = 32


@dataclass(frozen=True)
class Statement:
    """A label (``name:``), a directive (``.name arguments``) or an instruction, and where it was written."""

    kind: str
    text: str
    file: str
    line: int

    def fail(self, reason: str) -> AssemblyError:
        """An error that names this statement's place."""
        return AssemblyError(f"{self.file}:{self.line}: {self.text}: {reason}")


@dataclass
class _Macro:
    parameters: list[str]
    body: list[tuple[int, str]]
    file: str


@dataclass
class Reader:
    """Reads a source with everything that it includes; ``folder`` is where ``.include`` looks."""

    folder: Path | None = None
    statements: list[Statement] = field(default_factory=list)
    _macros: dict[str, _Macro] = field(default_factory=dict)
    _scope: str = ""
    _expansions: int = 0

    def read(self, source: str, file: str, depth: int = 0) -> None:
        """Append the statements of ``source``; raises `AssemblyError` with the place."""
        self._lines(iter(list(enumerate(source.splitlines(), 1))), file, depth)

    def _lines(self, lines: Iterator[tuple[int, str]], file: str, depth: int) -> None:
        for number, line in lines:
            here = Statement("line", line.strip(), file, number)
            if depth > _DEPTH_LIMIT:
                raise here.fail("Macros or includes are nested more than 32 deep; does one contain itself?")
            try:
                parts = split(_without_comment(line), ";")
            except AssemblyError as problem:
                raise here.fail(str(problem)) from None
            for part in parts:
                self._part(part, lines, Statement("line", part, file, number), depth)

    def _part(self, text: str, lines: Iterator[tuple[int, str]], here: Statement, depth: int) -> None:
        while match := _LABEL.match(text):
            if match[1].lower() in ("es", "cs", "ss", "ds", "fs", "gs"):
                break
            self._add("label", self._qualify_label(match[1]), here)
            text = text[match.end() :]
        if not text:
            return
        word, _, rest = text.partition(" ")
        rest = rest.strip()
        if word == ".macro":
            name, *parameters = rest.replace(",", " ").split()
            self._macros[name] = _Macro(parameters, _body(lines, ".macro", ".endm", here), here.file)
        elif word == ".rept":
            body = _body(lines, ".rept", ".endr", here)
            for index in range(self._constant(rest, here)):
                copy = [(number, line.replace("\\+", str(index))) for number, line in body]
                self._lines(iter(copy), here.file, depth + 1)
        elif word == ".include":
            self._include(rest, here, depth)
        elif word in self._macros:
            self._expand(self._macros[word], split(rest), here, depth)
        else:
            self._add("directive" if text.startswith(".") else "instruction", self._qualify(text), here)

    def _constant(self, text: str, here: Statement) -> int:
        def unknown(name: str) -> int:
            raise AssemblyError(f"{name} is not known here; a repeat count is made of numbers.")

        try:
            return evaluate(text, unknown)
        except AssemblyError as problem:
            raise here.fail(str(problem)) from None

    def _include(self, text: str, here: Statement, depth: int) -> None:
        name = text.strip().strip('"')
        if self.folder is None:
            raise here.fail("A source without a file cannot include another one.")
        path = self.folder / name
        try:
            source = path.read_text(encoding="utf-8")
        except OSError as problem:
            raise here.fail(f"{path} cannot be read: {problem.strerror}.") from None
        self.read(source, name, depth + 1)

    def _expand(self, macro: _Macro, arguments: list[str], here: Statement, depth: int) -> None:
        if len(arguments) != len(macro.parameters):
            raise here.fail(f"This macro takes {len(macro.parameters)} arguments, not {len(arguments)}.")
        self._expansions += 1
        plain = [text[1:-1] if text.startswith("{") and text.endswith("}") else text for text in arguments]
        values = dict(zip(macro.parameters, plain, strict=True)) | {"@": str(self._expansions)}
        scope = self._scope

        def value(match: re.Match[str]) -> str:
            return values.get(match[1], match[0])

        body = [(number, re.sub(r"\\(\w+|@)", value, line)) for number, line in macro.body]
        self._lines(iter(body), macro.file, depth + 1)
        self._scope = scope  # a macro's labels do not cut the local labels around its use

    def _add(self, kind: str, text: str, here: Statement) -> None:
        self.statements.append(Statement(kind, text, here.file, here.line))

    def _qualify_label(self, name: str) -> str:
        if name.startswith("."):
            return self._scope + name
        self._scope = name
        return name

    def _qualify(self, text: str) -> str:
        """Write local labels in full; the word of a directive and anything quoted stay as they are."""
        start = text.find(" ") if text.startswith(".") else 0
        if start < 0:
            return text
        pieces, position = [text[:start]], start
        for quoted in [*_QUOTED.finditer(text, start), None]:
            end = quoted.start() if quoted else len(text)
            pieces.append(_LOCAL.sub(lambda match: self._scope + match[0], text[position:end]))
            if quoted:
                pieces.append(quoted[0])
                position = quoted.end()
        return "".join(pieces)


def _without_comment(line: str) -> str:
    """The line up to a ``#`` outside quotes, tabs as spaces."""
    position = 0
    while position < len(line):
        if line[position] == "#":
            return line[:position]
        quoted = _QUOTED.match(line, position) if line[position] in "\"'" else None
        position = quoted.end() if quoted else position + 1
    return line


def _body(lines: Iterator[tuple[int, str]], start: str, end: str, here: Statement) -> list[tuple[int, str]]:
    body: list[tuple[int, str]] = []
    depth = 1
    for number, line in lines:
        word = _without_comment(line).strip().partition(" ")[0]
        depth += (word == start) - (word == end)
        if depth == 0:
            return body
        body.append((number, line))
    raise here.fail(f"{end} is missing.")
