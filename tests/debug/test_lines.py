"""File and line of an address, as gcc writes them, in every version of DWARF; damage costs only the lines."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.symbols.line_table import LineTable
from hypervisor.symbols.symbol_table import SymbolTable

SOURCE = """int add(int a, int b)
{
    return a + b;
}

void _start(void)
{
    volatile int sum = add(1, 2);
    *(volatile int *)0x7f0000000000 = sum;
}
"""


def built(folder: Path, *options: str) -> Path:
    """The source above as an ELF file at 1 MiB."""
    (folder / "main.c").write_text(SOURCE)
    command = ["gcc", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie", "-fcf-protection=none"]
    command += ["-Wl,-n,-Ttext=0x100000,--build-id=none", *options, "-o", "main.elf", "main.c"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "main.elf"


@pytest.mark.parametrize("version", ["-gdwarf-2", "-gdwarf-3", "-gdwarf-4", "-gdwarf-5", "-gdwarf-5 -m32"])
def test_lines_of_every_dwarf(version: str, tmp_path: Path) -> None:
    table = SymbolTable()
    table.load(built(tmp_path, *version.split()))
    assert table.line(table["add"]) == ("main.c", 2)
    assert table.line(table["_start"]) == ("main.c", 7)
    assert {table.line(at)[1] for at in range(table["add"], table["_start"]) if table.line(at)} == {2, 3, 4}  # type: ignore[index]
    assert table.line(table["add"] - 1) is None and table.line(1 << 40) is None


@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
def test_code_of_an_included_file_is_told_as_that_files(version: str, tmp_path: Path) -> None:
    (tmp_path / "other.h").write_text("\n\nint other(int a) { return a + 1; }\n")
    kernel = built(tmp_path, version, "-include", "other.h", "-I.")
    table = SymbolTable()
    table.load(kernel)
    file, line = table.line(table["other"]) or ("", 0)
    assert (file.rpartition("/")[2], line) == ("other.h", 3)
    assert (table.line(table["add"]) or ("", 0))[0] == "main.c"


def test_a_file_that_was_moved(tmp_path: Path) -> None:
    table = SymbolTable()
    table.load(built(tmp_path, "-g"), base=0x1000_0000)
    assert table.line(table["add"]) == ("main.c", 2) and table["add"] >= 0x1010_0000


def test_without_debug_data_there_are_no_lines(tmp_path: Path) -> None:
    table = SymbolTable()
    table.load(built(tmp_path))
    assert table.line(table["add"]) is None


def test_a_crash_of_an_elf_kernel_has_file_and_line(tmp_path: Path) -> None:
    with hv.boot(built(tmp_path, "-g"), memory="8M") as vm:
        crash = vm.run(timeout=60).crash
    assert crash is not None
    assert crash.stack[0].line == "main.c:9"
    assert crash.stack[0].symbol.startswith("_start+") and "main.c:9)" in str(crash)


def test_damaged_debug_data_costs_only_the_lines(tmp_path: Path) -> None:
    rng = random.Random(5)
    whole = built(tmp_path, "-g").read_bytes()
    found = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 4, 40))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        line = LineTable(lambda data=bytes(data): data).line(0x100004)  # type: ignore[misc]
        found += line is not None
    assert 10 < found < 150
