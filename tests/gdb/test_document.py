"""The transcript in docs/debugging.md is what gdb says."""

from __future__ import annotations

import re
from pathlib import Path

import hypervisor as hv
from tests.gdb.conftest import Debug

ADDRESS = re.compile("0x[0-9a-f]{8}|0x10[0-9a-f]{4}")  # another compiler puts the code elsewhere
DOCUMENT = Path(__file__).parents[2] / "docs" / "debugging.md"


def test_the_transcript(debug: Debug, kernel: Path) -> None:
    found = re.search(r"^```gdb\n\$ .*\n\$ gdb kernel\.elf\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)
    assert found
    typed = re.findall(r"^\(gdb\) (.*)$", found[1], re.M)
    assert typed[0] == "target remote :1234"
    script = ["file kernel.elf"]
    for line in typed:
        script += [f"echo (gdb) {line}\\n", "CONNECT" if line.startswith("target") else line]
    with hv.boot(kernel, memory="16M") as vm:
        said = debug(vm, "\n".join(script), cwd=kernel.parent)
    assert ADDRESS.sub("ADDRESS", said.text) == ADDRESS.sub("ADDRESS", found[1])
