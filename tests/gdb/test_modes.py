"""One session from real mode to long mode: registers, breakpoints and disassembly are right in each mode."""

from __future__ import annotations

from pathlib import Path

import hypervisor as hv
from tests.gdb.conftest import Debug
from tests.programs import run

HIGH = 0xFFFFFFFF80000000


def symbols(boot_sector: Path) -> dict[str, int]:
    listed = run("nm", boot_sector.with_suffix(".elf"))
    return {name: int(address, 16) for address, _, name in map(str.split, listed.splitlines())}


def test_without_a_file_the_description_is_read_again(debug: Debug, modes: Path) -> None:
    at = symbols(modes)
    with hv.boot(modes, memory="16M") as vm:
        said = debug(
            vm,
            f"""CONNECT
            show architecture
            break *{at["far_real"]}
            break *{at["in_protected"]}
            break *{at["in_long"]}
            continue
            printf "%x:%x is %x\\n", $cs, $ip, $pc
            x/i $pc
            continue
            unset tdesc filename
            show architecture
            x/i $pc
            p/x $ecx
            continue
            unset tdesc filename
            show architecture
            x/i $pc
            p/x $r15
            p $cr0
            p $efer
            break *{at["in_high"] + HIGH}
            continue
            watch *(long*){at["counter"] + HIGH}
            x/i $pc
            continue""",
        )
    assert '"auto" (currently "i8086")' in said
    assert f"700:{at['far_real'] - 0x7000:x} is {at['far_real']:x}" in said
    assert "mov    %cs,%bx" in said
    assert '"auto" (currently "i386")' in said
    assert "inc    %ecx" in said
    assert "$1 = 0x11223344" in said
    assert '"auto" (currently "i386:x86-64")' in said
    assert "inc    %r15" in said
    assert "$2 = 0x1122334455667788" in said
    assert "$3 = [ PE ET PG ]" in said
    assert "$4 = [ LME LMA ]" in said
    assert f"Breakpoint 4, {at['in_high'] + HIGH:#x}" in said
    assert "movq   $0x1," in said
    assert "exited normally" in said
    assert "too long" not in said


def test_with_a_file_the_user_says_what_code_is(debug: Debug, modes: Path) -> None:
    with hv.boot(modes, memory="16M") as vm:
        said = debug(
            vm,
            f"""file {modes.with_suffix(".elf")}
            CONNECT
            break in_real
            break in_protected
            break in_long
            set architecture i8086
            continue
            x/i $pc
            set $ax = 0x5555
            stepi
            p/x $ax
            p/x $rax
            continue
            set architecture i386
            x/i $pc
            p/x $ecx
            continue
            set architecture i386:x86-64
            x/i $pc
            watch *(long*)&counter
            continue
            continue
            p/x $r15
            continue""",
        )
    assert "in_real () at " in said
    assert "<in_real>:\tadd    $0x1,%ax" in said
    assert "$1 = 0x5556" in said
    assert "$2 = 0x5556" in said
    assert "<in_protected>:\tinc    %ecx" in said
    assert "$3 = 0x11223344" in said
    assert "<in_long>:\tinc    %r15" in said
    assert "Old value = 0\nNew value = 1\n" in said
    assert "Old value = 1\nNew value = 2\n" in said
    assert "$4 = 0x1122334455667789" in said
    assert "exited normally" in said
    assert "too long" not in said


def test_a_hook_follows_the_mode_by_itself(debug: Debug, modes: Path, tmp_path: Path) -> None:
    at = symbols(modes)
    hook = tmp_path / "follow.gdb"
    hook.write_text("define hook-stop\nunset tdesc filename\nend\n")
    with hv.boot(modes, memory="16M") as vm:
        said = debug(
            vm,
            f"""source {hook}
            CONNECT
            display/i $pc
            break *{at["in_real"]}
            break *{at["in_protected"]}
            break *{at["in_long"]}
            continue
            continue
            continue
            continue""",
        )
    assert said.text.index("add    $0x1,%ax") < said.text.index("inc    %ecx") < said.text.index("inc    %r15")
    assert "exited normally" in said
