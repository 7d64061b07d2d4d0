"""Where the values of a file in TOML begin, beside where they were put."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hypervisor.errors import ConfigError
from hypervisor.fleet.toml_file import TomlFile

TEXT = '''# a comment
title = """
several
lines"""

[vm.a]   # 6
image = "x"

list = [
  1,
  2,
]
"quoted key" = 3
[vm.b]
inline = {one = 1, two = [
  {three = 3}]}
d.o.t = 1

[[many]]
n = 1
[[many]]
# between
n = 2
'''
PLACES: dict[tuple[str | int, ...], int] = {
    ("title",): 2, ("vm",): 6, ("vm", "a"): 6, ("vm", "a", "image"): 7, ("vm", "a", "list"): 9,
    ("vm", "a", "list", 1): 9, ("vm", "a", "quoted key"): 13, ("vm", "b"): 14, ("vm", "b", "inline", "two", 0): 15,
    ("vm", "b", "d", "o", "t"): 17, ("many", 0): 19, ("many", 0, "n"): 20, ("many", 1): 21, ("many", 1, "n"): 23,
}  # fmt: skip


@pytest.mark.parametrize("path", PLACES, ids=str)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_lines_are_found(path: tuple[str | int, ...], end: str) -> None:
    assert TomlFile(TEXT.replace("\n", end)).line_of(path) == PLACES[path]


def test_lines_of_random_files() -> None:
    """Files of values on one line and on several, with comments and empty lines between; where each begins is known."""
    chance = random.Random(12)
    for _ in range(40):
        lines: list[str] = []
        places: dict[tuple[str, str], int] = {}
        for table in range(chance.randrange(1, 4)):
            lines.append(f"[t{table}]")
            for key in range(chance.randrange(1, 8)):
                lines += chance.choice([[], [""], ["# [t9]", "# k9 = 1"]])
                places[f"t{table}", f"k{key}"] = len(lines) + 1
                lines += chance.choice(
                    [
                        [f"k{key} = 1"],
                        [f"k{key} = [", "1,", "# 2", "]"],
                        [f'k{key} = """', "k7 = 3", '"""'],
                        [f"k{key} = {{a = [", "", "]}"],
                    ]
                )
        file = TomlFile("\n".join([*lines, ""]))
        for path, line in places.items():
            assert file.line_of(path) == line, "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a = 1\nb = [\n", ":3: this is no TOML"),
        (b"a = 1\nb\n", ":2: this is no TOML"),
        (b"a = 1\na = 2\n", ":2: this is no TOML"),
        (b"a = 1\nb = '\xff'\n", ":2: this is no text in UTF-8"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(text: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "hosts.toml"
    file.write_bytes(text)
    with pytest.raises(ConfigError) as raised:
        TomlFile(file)
    assert str(raised.value).startswith(f"{file}{said}")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        TomlFile(tmp_path / "none")
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        TomlFile("/dev/zero")
