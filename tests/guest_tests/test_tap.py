"""TAP and KTAP: reports made from a tree of tests are read back as this tree, cut anywhere, and with noise."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from hypervisor.testing.guest_tests.guest_lines import LONGEST, GuestLines, plain
from hypervisor.testing.guest_tests.guest_result import LOG_CHARACTERS, GuestResult, Outcome
from hypervisor.testing.guest_tests.listening import FORMATS, Reader
from hypervisor.testing.guest_tests.report_format import MOST_PROBLEMS, MOST_RESULTS

P, F, S, X, U = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED, Outcome.XFAILED, Outcome.XPASSED
NOISE = (
    "booting",
    "    indented",
    "okay",
    "not okay",
    "ok, go on",
    "# a comment",
    "1..x",
    "[ OK ] Started",
    "--- [ cut here ]",
)
WORDS = ("ok", "not", "heap", "1..2", "free list", "a-b", "TODO list", "x.y", "#1", "naïve")


@dataclass
class Node:
    name: str
    outcome: Outcome = P
    children: list[Node] = field(default_factory=list)

    def leaves(self, *suites: str) -> list[tuple[str, Outcome]]:
        here = (*suites, self.name)
        if not self.children:
            return [(".".join(here), self.outcome)]
        return [leaf for child in self.children for leaf in child.leaves(*here)]

    @property
    def good(self) -> bool:
        """Whether its result line says so; of a suite, that nothing in it failed but what is known to."""
        return all(out is not F for _, out in self.leaves()) if self.children else self.outcome not in (F, X)


def tree(choice: random.Random, depth: int, number: int) -> Node:
    name = f"{choice.choice(WORDS).replace('#', '')}{number}"
    children = []
    if depth and choice.random() < 0.5:
        children = [tree(choice, depth - 1, n) for n in range(choice.randint(1, 4))]
    return Node(name, choice.choice((P, P, F, S, X, U)), children)


def report(choice: random.Random, roots: list[Node], kernel: bool) -> list[str]:
    """The lines; the kernel's suites say their names, and plans come first."""
    step = 2 if kernel and choice.random() < 0.5 else 4

    def level(nodes: list[Node], indent: str, name: str | None) -> list[str]:
        head = [f"{indent}{'KTAP' if kernel else 'TAP'} version 1"] if kernel or name is None else []
        if name is not None:
            head.append(f"{indent}# Subtest: {name}")
        plan, lines = [f"{indent}1..{len(nodes)}"], []
        for number, node in enumerate(nodes, 1):
            if node.children:
                lines += level(node.children, indent + " " * step, node.name)
            dash = "- " if choice.random() < 0.5 else ""
            text = f"{indent}{'ok' if node.good else 'not ok'} {number} {dash}{node.name}"
            if not node.children:
                text += {S: " # SKIP why", X: " # TODO why", U: " # todo why"}.get(node.outcome, "")
            lines.append(text)
        return [*head, *plan, *lines] if kernel or choice.random() < 0.7 else [*head, *lines, *plan]

    return level(roots, "", None)


def noisy(choice: random.Random, lines: list[str]) -> bytes:
    """With what a kernel's log puts around them."""
    data = b""
    stamped = choice.random() < 0.5
    for line in lines:
        while choice.random() < 0.3:
            data += choice.choice(NOISE).encode() + b"\xff\n"
        prefix = f"[{choice.uniform(0, 1000):12.6f}] " if stamped else ""
        colour = ("\x1b[32m", "\x1b[0m") if choice.random() < 0.2 else ("", "")
        data += f"{colour[0]}{prefix}{line}{colour[1]}".encode() + choice.choice((b"\n", b"\r\n"))
    return data


def read(data: bytes, format: str = "auto", choice: random.Random | None = None) -> tuple[Reader, list[GuestResult]]:
    reader = Reader(FORMATS[format])
    at = 0
    while at < len(data):
        size = len(data) if choice is None else choice.randint(1, 50)
        reader.feed(data[at : at + size])
        at += size
    return reader, reader.end()


def told(results: list[GuestResult]) -> list[tuple[str, Outcome]]:
    return [(one.name, one.outcome) for one in results]


@pytest.mark.parametrize("seed", range(60))
def test_a_tree_is_read_back(seed: int) -> None:
    choice = random.Random(seed)
    roots = [tree(choice, 3, n) for n in range(choice.randint(1, 4))]
    lines = report(choice, roots, kernel=seed % 2 == 0)
    reader, results = read(noisy(choice, lines), choice=choice)
    assert told(results) == [leaf for root in roots for leaf in root.leaves()]
    assert reader.chosen is not None and reader.chosen.complete and not reader.chosen.problems


@pytest.mark.parametrize("seed", range(60))
def test_a_report_that_is_cut_is_not_whole_and_tells_what_it_has(seed: int) -> None:
    choice = random.Random(seed)
    roots = [tree(choice, 3, n) for n in range(choice.randint(1, 4))]
    lines = report(choice, roots, kernel=True)
    kept = lines[: choice.randint(2, len(lines) - 1)]
    reader = Reader(FORMATS["auto"])
    reader.feed(noisy(choice, kept))
    assert reader.chosen is not None and not reader.chosen.complete
    results = told(reader.end())
    every = [leaf for root in roots for leaf in root.leaves()]
    printed = sum(line.strip().startswith(("ok ", "not ok ")) for line in kept) - _suites(roots, kept)
    assert results[:printed] == every[:printed]
    assert {outcome for _, outcome in results[printed:]} <= {F}
    assert reader.chosen.problems


def _suites(roots: list[Node], lines: list[str]) -> int:
    """How many of these result lines are those of suites: whatever is indented more came just before."""
    count = 0
    for before, line in pairwise(lines):
        text = line.lstrip()
        count += text.startswith(("ok ", "not ok ")) and len(before) - len(before.lstrip()) > len(line) - len(text)
    return count


@pytest.mark.parametrize("seed", range(60))
def test_a_lost_line_is_noticed(seed: int) -> None:
    choice = random.Random(seed)
    roots = [tree(choice, 2, n) for n in range(choice.randint(1, 4))]
    lines = report(choice, roots, kernel=True)
    lost = choice.choice([n for n, line in enumerate(lines) if line.strip().startswith(("ok ", "not ok "))])
    reader, _ = read("\n".join(lines[:lost] + lines[lost + 1 :]).encode())
    assert reader.chosen is not None and reader.chosen.problems


@pytest.mark.parametrize(
    ("text", "results", "problems"),
    [
        ("1..2\nok\nnot ok - two\n", [("1", P), ("two", F)], []),
        ("ok 1 a\nok 2 a\nok 3 a\n1..3\n", [("a", P), ("a#2", P), ("a#3", P)], []),
        ("1..2\nok 1 a # SKIP\nnot ok 2 b # skip no net\n", [("a", S), ("b", S)], []),
        ("1..2\nok 1 a # TODO\nnot ok 2 b # TODO later\n", [("a", U), ("b", X)], []),
        ("KTAP version 1\n1..3\nok 1 a # XFAIL x\nnot ok 2 b # TIMEOUT 45 seconds\nnot ok 3 c # ERROR\n",
         [("a", X), ("b", F), ("c", F)], []),
        ("1..1\nok 1 - selftests: net: a\\#b # exit=0\n", [("selftests: net: a#b", P)], []),
        ("1..4\nok 1 a\nok 4 d\n", [("a", P), ("d", P)],
         ["the report has 2 of the 4 results of its plan: no result has the numbers 2, 3"]),
        ("1..1\nok 1 a\nok b\n", [("a", P), ("b", P)], ["the report has 2 results, and its plan says 1"]),
        ("1..2\nok 1 a\nok 12 b\n", [("a", P), ("b", P)],
         ["the report has results with the number 12, and its plan says 2"]),
        ("1..2\nok 2 a\nok 1 b\n", [("a", P), ("b", P)], []),
        ("1..2\nok 1 a\nok 1 b\n", [("a", P), ("b", P)], ["the report has several results with the number 1"]),
        ("1..1\n1..2\nok 1 a\nok 2 b\n", [("a", P), ("b", P)], ["the report has two plans, 1..1 and 1..2"]),
        ("1..9\nok 1 a\nBail out! disk is on fire\n", [("a", P)], ["the guest bailed out: disk is on fire"]),
        ("TAP version 13\n1..1\nnot ok 1 a\n  ---\n  message: no\n  ok 2: never\n  ...\nTAP version 13\n1..1\nok 1 a\n",
         [("a", F), ("a#2", P)], []),
        ("1..1\n    1..2\n    ok 1 x\n    ok 2 y\nnot ok 1 - s\n",
         [("s.x", P), ("s.y", P), ("s", F)], []),
        ("1..1\n    1..3\n    ok 1 x\nok 1 - s\n", [("s.x", P)],
         ["a suite has 1 of the 3 results of its plan: no result has the numbers 2, 3"]),
        ("1..1\nok 1 blog_os::vga::println\n", [("blog_os.vga.println", P)], []),
    ],
)  # fmt: skip
def test_by_the_book(text: str, results: list[tuple[str, Outcome]], problems: list[str]) -> None:
    reader, found = read(text.encode())
    assert told(found) == results
    assert reader.chosen is not None and reader.chosen.problems == problems


def test_what_belongs_to_a_result_is_told_with_it() -> None:
    _, kernel = read(b"KTAP version 1\n1..2\n# a: EXPECTATION FAILED\nnot ok 1 a\n# b: fine\nok 2 b\n")
    assert [one.log for one in kernel] == ["# a: EXPECTATION FAILED", "# b: fine"]
    _, perl = read(b"1..2\nhello\nnot ok 1 a\n#   Failed test 'a'\n  ---\n  got: 1\n  ...\nok 2 b\n")
    assert [one.log for one in perl] == ["hello\n#   Failed test 'a'\ngot: 1", ""]
    assert read(b"1..1\nok 1 a # SKIP no disk\n")[1][0].reason == "no disk"


def test_a_skipped_report_says_why() -> None:
    reader, found = read(b"TAP version 13\n1..0 # SKIP no such processor\n")
    assert not found and reader.chosen is not None and reader.chosen.complete
    assert reader.chosen.skipped == "no such processor" and not reader.chosen.problems


@pytest.mark.parametrize("text", [b"ok booting\n", b"not ok then\n", b"okay 1\n", b"Loading... ok 1\n", b"1..\n", b""])
def test_what_is_no_report(text: bytes) -> None:
    reader, found = read(text)
    assert reader.chosen is None and not found


def test_who_says_that_it_is_tap_need_not_number_its_results() -> None:
    assert told(read(b"ok a\nnot ok\n1..2\n", "tap")[1]) == [("a", P), ("2", F)]
    reader, found = read(b"ok a\nnot ok\n1..2\n")
    assert not found and reader.chosen is not None and reader.chosen.problems


def test_lines_are_plain() -> None:
    assert plain(b"<6>[    1.234567] [  T12] \x1b[1;31mnot ok\x1b[0m 1 \xff\a\r") == "not ok 1 \\xff"
    assert plain(b"[    0.5]     ok 1 - x") == "    ok 1 - x"
    lines = GuestLines()
    assert list(lines.feed(b"a" * 100_000)) == [] and len(lines.unended) == LONGEST
    assert [len(line) for line in lines.feed(b"b\nc\nd")] == [LONGEST, 1] and lines.unended == "d"


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "exit"])
def test_no_guest_makes_it_fail_or_grow(format: str) -> None:
    choice = random.Random(format)
    pieces = [
        b"ok ", b"not ok ", b"1..", b"999999999", b"# SKIP ", b"# Subtest: ", b"TAP version 14\n", b"KTAP version 1\n",
        b"Bail out!", b"  ", b"        ", b"\t", b"\n", b"\n", b"---\n", b"  ---\n", b"...",
        b"PASS ", b"[FAIL] ", b"test a ... ",
        b"[ok]", b"running 5 tests\n", b"\x1b[", b"[ 1.0] ", b"\xff\xfe", b"7", b"x" * 300,
        b"(" * 900, b" " * 900, b"::", b"#", b"\0",
    ]  # fmt: skip
    for _ in range(60):
        reader, found = read(b"".join(choice.choice(pieces) for _ in range(200)), format, choice)
        assert len({one.name for one in found}) == len(found)
        if reader.chosen is not None:
            assert len(reader.chosen.problems) <= MOST_PROBLEMS


def test_there_are_only_so_many_results() -> None:
    count = MOST_RESULTS + 100
    for format, line in (("tap", "ok {} x"), ("lines", "PASS x{}"), ("rust", "test x{} ... ok")):
        reader, found = read("".join(f"{line.format(n)}\n" for n in range(1, count + 1)).encode(), format)
        assert len(found) == MOST_RESULTS
        assert reader.chosen is not None and reader.chosen.lost == 100
    deep = b"".join(b" " * n + b"KTAP version 1\n" for n in range(2000))
    assert read(deep)[1] == [] or len(read(deep)[1]) == 1
    _, found = read(b"1..1\n" + b"noise\n" * 100_000 + b"ok 1 a\n")
    assert len(found[0].log) <= LOG_CHARACTERS
