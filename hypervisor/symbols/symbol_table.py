"""Symbols of a guest: a name gives an address, an address gives the name it lies under.

A table collects sources. What comes with an image is read when somebody first asks; a file that the user names is read
at once, so that one that is no symbol file is told of where it is named, and not by the next report.
"""

from __future__ import annotations

import json
import reprlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from hypervisor.elf import MAGIC, ElfError
from hypervisor.elf import symbols as elf_symbols
from hypervisor.errors import ConfigError
from hypervisor.symbols.call_frames import FrameTable, ReadWord, Registers
from hypervisor.symbols.line_table import LineTable
from hypervisor.units import MIB

MAX_OFFSET = 1 << 20
"""Bytes behind a symbol beyond which an address no longer belongs to it: most files record no sizes."""

LARGEST_FILE = 1024 * MIB
"""Bytes of an ELF file; debug data of a Linux kernel make it 700 MiB."""
LARGEST_TEXT = 64 * MIB
"""Bytes of a symbol file that is text; a Linux kernel's System.map has 10 MiB."""
SIMILAR_AMONG = 20_000
"""Names that are compared with one that does not exist."""

_NOWHERE = frozenset((0, (1 << 64) - 1))
"""Addresses that stand in for those that are not told."""

Source = Callable[[], Mapping[str, int]]

_SHORT = reprlib.Repr()
"""Shows in an error what a file says, which may be long, or lists in lists without end."""
_SHORT.maxstring = 80


class SymbolTable(Mapping[str, int]):
    """Names to guest-virtual addresses. Where sources share a name, the one that was added last wins."""

    def __init__(self, symbols: Mapping[str, int] | None = None) -> None:
        self._sources: list[Source] = []
        self._by_name: dict[str, int] | None = None
        self._by_address: tuple[list[int], list[str]] | None = None
        self._lines: list[LineTable] = []
        self._frames: list[FrameTable] = []
        if symbols is not None:
            self.add(symbols)

    def add(self, symbols: Mapping[str, int], base: int = 0) -> None:
        """Use ``symbols`` too, with ``base`` added to each address. They are read when somebody first looks."""
        self._add(lambda: {name: address + base for name, address in symbols.items()})

    def load(self, path: str | Path, base: int = 0) -> None:
        """Use the symbols of a file too, with ``base`` added to each address.

        The file is an ELF image, a JSON object of names and addresses, or text as ``nm``, System.map and
        ``/proc/kallsyms`` have it (``ffffffff81000000 T _text``). Raises `ConfigError`, and adds nothing, if it cannot
        be read, is none of these, or has no symbols. Line numbers and call frames of an ELF file are read when first
        asked for, from the file as it is then.
        """
        file = Path(path)
        symbols = read_symbols(file)
        if not symbols:
            raise ConfigError(
                f"Symbol file {file} has no symbols. Give the file before it was stripped, or the System.map of its "
                "build."
            )
        if set(symbols.values()) <= _NOWHERE:
            raise ConfigError(
                f"Symbol file {file} has zeros or ones in the place of addresses. Read /proc/kallsyms as root; a "
                "distribution's System.map may be a stub, and the real one is in a package of debug data."
            )
        self._add(lambda: {name: address + base for name, address in symbols.items()})
        self.add_lines(lambda: _contents(file), base)

    def add_lines(self, read: Callable[[], bytes], base: int = 0) -> None:
        """Use the line numbers and call frames (DWARF) of the ELF file whose bytes ``read`` returns, for `line` and
        `caller`. Read when first asked for; a file that is no ELF file, or has none, adds nothing.
        """
        self._lines.append(LineTable(read, base))
        self._frames.append(FrameTable(read, base))

    def follow(self, other: SymbolTable) -> None:
        """Know what ``other`` knows, and nothing else; what has been read already is not read again."""
        self._sources, self._lines, self._frames = list(other._sources), list(other._lines), list(other._frames)
        self._by_name, self._by_address = other._by_name, other._by_address

    def line(self, address: int) -> tuple[str, int] | None:
        """Source file and line number of the instruction at ``address``, or None where they are not known."""
        return next((found for table in self._lines if (found := table.line(address)) is not None), None)

    def all_lines(self) -> set[tuple[str, int]]:
        """Source files and line numbers that have instructions; not all of a large file's, but all of the units that
        `line` has told lines of.
        """
        return set().union(*(table.all_lines() for table in self._lines))

    def functions(self) -> dict[int, str]:
        """Where functions begin, and their names, of the ELF files that `line` asks."""
        found: dict[int, str] = {}
        for table in reversed(self._lines):
            found |= table.functions()
        return found

    def caller(self, registers: Registers, instruction: int, word: ReadWord, bits: int) -> Registers | None:
        """The registers as they were in the caller of the code around ``instruction``, or None where no file tells."""
        found = (table.caller(registers, instruction, word, bits) for table in self._frames)
        return next((caller for caller in found if caller is not None), None)

    def address(self, symbol: str | int) -> int:
        """The address of a symbol; an address is returned as it is. Raises `ConfigError` with similar names."""
        if isinstance(symbol, int):
            return symbol
        names = self._names()
        if symbol in names:
            return names[symbol]
        if not names:
            raise ConfigError(
                f"There is no symbol {symbol!r}: no symbols are loaded. Add them with vm.symbols.load(FILE)."
            )
        similar = get_close_matches(symbol, list(names)[:SIMILAR_AMONG], n=3)
        hint = f" Did you mean {', '.join(similar)}?" if similar else ""
        raise ConfigError(f"There is no symbol {symbol!r} among the {len(names)} loaded.{hint}")

    def lookup(self, address: int) -> tuple[str, int] | None:
        """The symbol at or before ``address`` and the offset from it in bytes, or None if none is near
        (`MAX_OFFSET`)."""
        addresses, names = self._addresses()
        index = bisect_right(addresses, address) - 1
        if index < 0 or address - addresses[index] >= MAX_OFFSET:
            return None
        return names[index], address - addresses[index]

    def describe(self, address: int) -> str:
        """``name+0x12`` for reports, ``name`` at its very start, or an empty string."""
        found = self.lookup(address)
        if found is None:
            return ""
        return f"{found[0]}+{found[1]:#x}" if found[1] else found[0]

    def __getitem__(self, name: str) -> int:
        return self._names()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _add(self, source: Source) -> None:
        self._sources.append(source)
        self._by_name = self._by_address = None

    def _names(self) -> dict[str, int]:
        if self._by_name is None:
            merged: dict[str, int] = {}
            for source in self._sources:
                merged.update(source())
            self._by_name = merged
        return self._by_name

    def _addresses(self) -> tuple[list[int], list[str]]:
        """Sorted addresses with one name each; of several names for an address the shortest is the least mangled."""
        if self._by_address is None:
            # Sorted, not gathered in a dict by address: a file can choose numbers that all collide there.
            ordered = sorted((address, len(name), name) for name, address in self._names().items())
            addresses, names = list[int](), list[str]()
            for address, _, name in ordered:
                if not addresses or addresses[-1] != address:
                    addresses.append(address)
                    names.append(name)
            self._by_address = addresses, names
        return self._by_address


def read_symbols(path: Path) -> dict[str, int]:
    """The symbols of one file, told by its first bytes. Raises `ConfigError` naming the file and the line."""
    try:
        data = _contents(path)
        if data[:4] == MAGIC:
            return elf_symbols(data)
        text = data.decode(errors="replace")
    except OSError as error:
        raise ConfigError(f"Symbol file {path} cannot be read: {error.strerror}.") from error
    except ElfError as error:
        raise ConfigError(f"Symbol file {path} is a damaged ELF file: {error}.") from error
    except MemoryError as error:
        raise ConfigError(f"Symbol file {path} needs more memory than the host has left.") from error
    return _read_json(path, text) if text.lstrip().startswith("{") else _read_text(path, text)


def _contents(path: Path) -> bytes:
    """A symbol file's bytes. Raises `ConfigError` for one that is too large, or no file: a device has no end."""
    with path.open("rb") as file:
        head = file.read(4)
        limit = LARGEST_FILE if head == MAGIC else LARGEST_TEXT
        data = head + file.read(limit)
    if len(data) > limit:
        raise ConfigError(f"Symbol file {path} has more than {limit // MIB} MiB; give one with fewer symbols.")
    return data


def _read_json(path: Path, text: str) -> dict[str, int]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"Symbol file {path} begins like JSON but is not: {error}.") from error
    symbols: dict[str, int] = {}
    for name, value in content.items():
        try:
            symbols[name] = int(value, 0) if isinstance(value, str) else int(value)
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(
                f"Symbol file {path}: {_SHORT.repr(name)} has {_SHORT.repr(value)}; "
                'an address is a number or text such as "0x1000".'
            ) from None
    return symbols


def _read_text(path: Path, text: str) -> dict[str, int]:
    symbols: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#") or len(fields[0]) == 1:  # "         U name": undefined, no address
            continue
        try:
            address, kind, name = int(fields[0], 16), *fields[1:3]
            if len(kind) != 1:
                raise ValueError(kind)
        except ValueError:
            raise ConfigError(
                f"Symbol file {path}, line {number}: {_SHORT.repr(line.strip())} is not "
                "'ADDRESS TYPE NAME' as nm writes it."
            ) from None
        if kind not in "aA":  # absolute: numbers, not places
            symbols[name] = address
    return symbols
