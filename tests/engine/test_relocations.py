"""Pointers that a library's relocations filled in, against all of them as pyelftools reads them in its file."""

from __future__ import annotations

import ctypes
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from hypervisor.engine.interposition.native import native
from hypervisor.engine.interposition.relocations import Relocations

JUMP_SLOT, POINTER = 7, 1  # R_X86_64_JUMP_SLOT, R_X86_64_64
Listed = dict[int, dict[str, set[int]]]


@pytest.fixture(scope="module")
def listed() -> Listed:
    """Where relocations of a type and a symbol's name are, in the file."""
    library: Any = native().library
    found: Listed = defaultdict(lambda: defaultdict(set))
    with Path(library._name).open("rb") as file:
        elf: Any = ELFFile(file)
        symbols = [symbol.name for symbol in elf.get_section_by_name(".dynsym").iter_symbols()]
        for section in (".rela.plt", ".rela.dyn"):
            for row in elf.get_section_by_name(section).iter_relocations():
                found[row["r_info_type"]][symbols[row["r_info_sym"]]].add(row["r_offset"])
    return found


@pytest.mark.parametrize("kind", [JUMP_SLOT, POINTER])
def test_any_names_are_found_where_the_file_says(listed: Listed, kind: int) -> None:
    library: Any = native().library
    relocations = Relocations(library._handle)
    base = ctypes.c_uint64.from_address(library._handle).value  # of struct link_map
    single = {name: places for name, places in listed[kind].items() if len(places) == 1}
    assert len(single) > 1000
    chosen = frozenset(random.Random(5).sample(sorted(single), 500)) | (frozenset(("abort", "memcpy")) & single.keys())
    found = (relocations.calls if kind == JUMP_SLOT else relocations.data)(chosen)
    assert {name: {place - base} for name, place in found.items()} == {name: single[name] for name in chosen}


def test_what_the_library_takes_from_elsewhere_is_found_and_what_is_nowhere_is_not(listed: Listed) -> None:
    relocations = Relocations(native().library._handle)
    name = sorted(listed[JUMP_SLOT])[0]
    nowhere = frozenset((f"{name}_", f"{name[:-1]}\x7f", "", "no_such_function"))
    assert relocations.calls(nowhere | {"abort", "memcpy"}).keys() == {"abort", "memcpy"}
