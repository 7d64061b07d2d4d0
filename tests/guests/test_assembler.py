"""The source format: labels, directives, macros, expressions, and errors that are sentences with their place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hypervisor.assembler import AssemblyError, assemble, assemble_file


def test_statements_are_separated_by_lines_and_semicolons() -> None:
    image = assemble("mov eax, 0x40000000; cpuid # a comment; not code\nhlt", mode=64)
    assert image.code.hex() == "b8000000400fa2f4"
    assert [(line.address, line.mode, line.line, line.text) for line in image.listing] == [
        (0, 64, 1, "mov eax, 0x40000000"),
        (5, 64, 1, "cpuid"),
        (7, 64, 2, "hlt"),
    ]


def test_labels_and_local_labels() -> None:
    image = assemble("one: nop\n.again: jmp .again\ntwo:\n.again: jmp .again\njmp one.again", origin=0x100)
    assert image.symbols == {"one": 0x100, "one.again": 0x101, "two": 0x103, "two.again": 0x103}
    assert image.code.hex() == "90ebfeebfeebfa"


def test_data_directives() -> None:
    source = ".byte 1, -1, 'A'\n.word end - start, 0xffff\nstart: .dword 1 << 31\n.qword -2\nend:\n"
    source += '.asciz "a;\\n#"\n.ascii "b"'
    assert assemble(source).code == bytes([1, 255, 65, 12, 0, 255, 255, 0, 0, 0, 0x80, 254, *[255] * 7]) + b"a;\n#\0b"


def test_the_first_org_places_the_image_and_later_ones_pad() -> None:
    image = assemble(".code16\n.org 0x7c00\ncli\n.org 0x7c00 + 510\n.byte 0x55, 0xaa")
    assert (image.origin, len(image.code), image.code[510:]) == (0x7C00, 512, b"\x55\xaa")


def test_bss_has_addresses_and_no_bytes() -> None:
    image = assemble("nop\n.bss\n.align 16\nbuffer: .skip 100\nend:")
    assert (image.code, image.symbols) == (b"\x90", {"buffer": 16, "end": 116})


def test_constants_may_be_used_before_they_are_defined() -> None:
    assert assemble("mov al, VALUE\nmov bl, VALUE * 2 + (1 | 4)\n.equ VALUE, 5").code.hex() == "b005b30f"


def test_jumps_take_the_short_form_where_it_reaches() -> None:
    assert assemble("jmp end\n.skip 127\nend:").code[:2].hex() == "eb7f"
    assert assemble("jmp end\n.skip 128\nend:").code[:5].hex() == "e980000000"
    assert assemble("jmp near end\nend:").code.hex() == "e900000000"
    chain = "\n".join(f"jmp l{index + 1}\n.skip 120\nl{index}:" for index in range(20)) + "\nl20:"
    assert assemble(chain).code[:1] == b"\xe9"


def test_macros_and_repetitions() -> None:
    macro = '.macro put what, n\nl_\\@: .byte \\n\n.ascii "\\what"\n.endm\n'
    image = assemble(macro + "put {a, b}, 1\nput c, 2\n.rept 3\n.byte \\+\n.endr")
    assert image.code == b"\x01a, b\x02c\x00\x01\x02"
    assert image.symbols == {"l_1": 0, "l_2": 5}


def test_a_macros_labels_do_not_cut_local_labels() -> None:
    image = assemble(".macro m\nx_\\@:\n.endm\nmain: nop\n.loop: m\njmp .loop")
    assert image.symbols == {"main": 0, "main.loop": 1, "x_1": 1}


def test_includes_are_found_beside_the_source(tmp_path: Path) -> None:
    (tmp_path / "part.inc").write_text("hlt\n")
    (tmp_path / "whole.asm").write_text('nop\n.include "part.inc"\n')
    assert assemble_file(tmp_path / "whole.asm").code == b"\x90\xf4"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nop\nfoo eax", "<asm>:2: foo eax: Keystone refuses 'foo eax' in 32-bit code: Invalid mnemonic."),
        ("mov eax, nowhere", "nowhere is not defined; define it with a label or with .equ nowhere, VALUE."),
        ("a: nop\na: nop", "<asm>:2: a: a is already defined at <asm>:1."),
        ("eax: nop", "eax is the name of a register."),
        (".byte 256", "0x100 does not fit into the 1 bytes of .byte."),
        (".byte 1 +", "A number or a name is missing in the expression '1 +'."),
        (".byte 1 / 0", "The expression '1 / 0' has no value: integer division or modulo by zero."),
        (".byte (1", "A closing parenthesis is missing"),
        (".byte 09", "'09' is not a number; write 10, 0x0a or 0b1010."),
        ('.ascii "abc', 'A closing " is missing.'),
        ('.ascii "\\q"', "\\q is not an escape"),
        (".ascii abc", ".ascii takes text in double quotes."),
        (".frob 1", ".frob is not a directive of this assembler."),
        (".equ A", ".equ takes a name and a value: .equ NAME, VALUE."),
        (".skip -1", "-1 bytes cannot be skipped"),
        (".skip 1 << 40", "cannot be skipped; the limit is 0 to 64 MiB"),
        ("nop\n.org 0", "The position is already 0x1, 1 bytes beyond 0x0."),
        (".bss\nnop", "After .bss the image has no bytes"),
        ("jmp short end\n.skip 200\nend:", "is 200 bytes away; a short jmp reaches -128 to 127."),
        ("mov eax, [ebx + ecx + edx]", "has too many registers; an address is base + index*scale + number."),
        ("mov eax, [ebx*3]", "3 is not a scale; an index can be multiplied by 1, 2, 4 or 8."),
        ("mov eax, [bx + ecx]", "is not an address of 32-bit code."),
        ("mov eax, [1", "is not a memory operand"),
        ("mov eax,, 1", "An operand is missing between two commas."),
        ("o16 cpuid", "o16 is for far jumps, returns, flags and descriptor tables, not for cpuid."),
        (".macro m a\n.endm\nm", "This macro takes 1 arguments, not 0."),
        (".macro m", ".endm is missing."),
        (".macro m\nm\n.endm\nm", "nested more than 32 deep"),
        (".rept x\n.endr", "x is not known here; a repeat count is made of numbers."),
        ('.include "other.inc"', "A source without a file cannot include another one."),
    ],
)
def test_errors_are_sentences_with_their_place(source: str, sentence: str) -> None:
    with pytest.raises(AssemblyError) as caught:
        assemble(source)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("<asm>:")
    assert str(caught.value).endswith((".", "?"))


def test_a_mode_that_does_not_exist() -> None:
    with pytest.raises(AssemblyError, match="8 is not a mode"):
        assemble("nop", mode=8)


def test_a_source_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(AssemblyError, match="cannot be read as a source"):
        assemble_file(tmp_path / "absent.asm")


def test_keystone_is_imported_only_to_assemble() -> None:
    code = "import sys, hypervisor.assembler, hypervisor.guests, hypervisor.debug.verify; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"keystone", "capstone"} & set(modules)
