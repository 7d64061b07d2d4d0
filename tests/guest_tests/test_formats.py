"""Lines with verdicts, and tests as Rust's harness tells them."""

from __future__ import annotations

import pytest

from hypervisor.testing.guest_tests.guest_result import GuestResult as Result
from hypervisor.testing.guest_tests.guest_result import Outcome, joined, unique
from tests.guest_tests.test_tap import F, P, S, U, X, read, told


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("PASS a\nFAIL: b c\nSKIP d (no e1000)\n", [("a", P), ("b c", F), ("d", S)]),
        ("[PASS] a\n[ FAIL ] b\n  [SKIP]: c # no disk\n", [("a", P), ("b", F), ("c", S)]),
        ("PASSED - a\nERROR: b\nUNTESTED: c\nXFAIL: d\nXPASS: e\nKFAIL: f\n",
         [("a", P), ("b", F), ("c", S), ("d", X), ("e", U), ("f", X)]),
        ("PASS: sub rsp, 8 (0x10)\nPASS sub rsp, 8 (0x10)\n", [("sub rsp, 8 (0x10)", P), ("sub rsp, 8 (0x10)#2", P)]),
        ("PASSPORT x\npass y\nall PASS\nPASS\nSUMMARY: 3 tests\nFAILURE: z\n", []),
    ],
)  # fmt: skip
def test_verdict_lines(text: str, results: list[tuple[str, Outcome]]) -> None:
    reader, found = read(text.encode())
    assert told(found) == results
    assert reader.chosen is None or not (reader.chosen.complete or reader.chosen.announced)


def test_reasons_and_logs_of_verdict_lines() -> None:
    _, found = read(b"checking\nFAIL: b (expected 3)\nSKIP c # no disk\nPASS d (e)\n")
    assert found == [
        Result("b", F, "expected 3", "checking"), Result("c", S, "no disk"), Result("d (e)", P),
    ]  # fmt: skip


def test_the_format_that_begins_first_is_the_reports() -> None:
    assert told(read(b"1..1\nPASS x\nok 1 a\n")[1]) == [("a", P)]
    assert told(read(b"PASS x\n1..1\nok 1 a\n")[1]) == [("x", P)]
    assert told(read(b"PASS x\n1..1\nok 1 a\n", "tap")[1]) == [("a", P)]


RUST = """Running 4 tests
blog_os::vga_buffer::test_println_simple...\t[ok]
blog_os::heap...\tallocating
freed [ok]
test tests::adds ... ok
trivial_assertion...\t[failed]

Error: panicked at 'assertion failed', src/main.rs:34:5
"""


def test_rusts_harness() -> None:
    reader, found = read(RUST.encode(), "rust")
    assert told(found) == [
        ("blog_os.vga_buffer.test_println_simple", P), ("blog_os.heap", P), ("tests.adds", P), ("trivial_assertion", F),
    ]  # fmt: skip
    assert found[1].log == "allocating\nfreed"
    assert reader.chosen is not None and reader.chosen.complete and not reader.chosen.problems


@pytest.mark.parametrize(
    ("text", "results", "problems"),
    [
        ("running 2 tests\na ... ok\nb...\t", [("a", P), ("b", F)], []),
        ("running 3 tests\na ... ok\nb...\tdying", [("a", P), ("b", F)],
         ["the report has 2 of the 3 results that were announced"]),
        ("running 2 tests\na...\nb... [ok]\n", [("a", F), ("b", P)], []),
        ("running 1 test\ntest a ... ignored, needs a disk\n", [("a", S)], []),
        ("running 1 test\ntest a - should panic ... ok\n", [("a", P)], []),
    ],
)  # fmt: skip
def test_rusts_tests_that_do_not_end(text: str, results: list[tuple[str, Outcome]], problems: list[str]) -> None:
    reader, found = read(text.encode(), "rust")
    assert told(found) == results
    assert reader.chosen is not None and reader.chosen.problems == problems


def test_boot_messages_are_no_tests_unless_that_is_asked_for() -> None:
    assert read(b"Loading the disk... ok\n")[1] == []


def test_names() -> None:
    assert joined("a::b", " c ", "") == "a.b.c"
    assert [one.name for one in unique([Result(name, P) for name in ("a", "a#2", "a", "run")], taken=("run",))] == [
        "a", "a#2", "a#3", "run#2",
    ]  # fmt: skip
