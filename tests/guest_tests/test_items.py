"""Guests' tests as items of pytest: what a user sees, by pytest itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.testing.guest_tests.expectation import Expectation
from hypervisor.testing.guest_tests.guest_outcome import run_guest_tests
from tests.guest_tests.kernels import CRASH, FOREVER, HALT, OFF, OPTIONS, TOML, kernel, leaves, write
from tests.plugins.inner_pytest import begin, finished

KTAP = b"""[    0.000000] KTAP version 1
[    0.100000] 1..2
    KTAP version 1
    # Subtest: heap
    1..3
    ok 1 alloc
    # free: EXPECTATION FAILED at heap.c:12
    not ok 2 free
    ok 3 grow # SKIP no room
not ok 1 heap
not ok 2 paging # TODO big pages
"""

COUNTED = """
import hypervisor

boot = hypervisor.boot

def booting(*image, **options):
    with open(f"{__file__}.booted", "a") as log:
        log.write("x")
    return boot(*image, **options)

hypervisor.boot = booting
"""


WORDS = "PASSED|FAILED|SKIPPED|XFAIL|XPASS|ERROR"


def outcomes(text: str) -> dict[str, str]:
    """What pytest's verbose lines say, with or without xdist's workers."""
    alone = re.findall(rf"^(\S+?::.*?) ({WORDS})(?: \(.*\))?(?: +\[ *\d+%\])?$", text, re.M)
    by_workers = re.findall(rf"^\[gw\d\] (?:\[ *\d+%\] )?({WORDS}) (\S+?::.*?) *$", text, re.M)
    return {name: was for name, was in [*alone, *((name, was) for was, name in by_workers)]}


def run(folder: Path, *arguments: str, status: int = 1, asked: str = "") -> tuple[str, dict[str, str]]:
    text = finished(begin(folder, "-vv", *arguments, asked=asked), status)
    return text, outcomes(text)


def booted(folder: Path) -> int:
    log = folder / "conftest.py.booted"
    return len(log.read_text()) if log.exists() else 0


EVERY = {
    "kernel.guest.toml::run": "PASSED",
    "kernel.guest.toml::heap.alloc": "PASSED",
    "kernel.guest.toml::heap.free": "FAILED",
    "kernel.guest.toml::heap.grow": "SKIPPED",
    "kernel.guest.toml::paging": "XFAIL",
}


@pytest.fixture
def described(tmp_path: Path) -> Path:
    write(tmp_path, "kernel", KTAP, HALT)
    (tmp_path / "conftest.py").write_text(COUNTED)
    return tmp_path


def test_each_result_is_a_test(described: Path) -> None:
    text, found = run(described)
    assert found == EVERY, text
    assert "1 failed, 2 passed, 1 skipped, 1 xfailed" in text
    assert "heap.free failed in the guest" in text and "EXPECTATION FAILED at heap.c:12" in text
    assert booted(described) == 1


def test_collecting_boots_nothing_and_knows_tests_that_are_named(described: Path) -> None:
    write(described, "named", KTAP, HALT, 'names = ["paging", "heap::alloc", "heap.shrink"]')
    text = finished(begin(described, "--collect-only"), 0)
    assert [line for line in text.splitlines() if "::" in line] == [
        "kernel.guest.toml::run", "named.guest.toml::run", "named.guest.toml::paging", "named.guest.toml::heap.alloc",
        "named.guest.toml::heap.shrink",
    ]  # fmt: skip
    assert booted(described) == 0
    text, found = run(described, asked="named.guest.toml")
    assert found == {name.replace("kernel.", "named."): was for name, was in EVERY.items()} | {
        "named.guest.toml::run": "FAILED", "named.guest.toml::heap.shrink": "FAILED",
    }, text  # fmt: skip
    assert "It did not report heap.shrink." in text
    assert "The guest reported no test 'heap.shrink'; it reported heap.alloc, heap.free" in text
    assert booted(described) == 1


def test_one_result_can_be_asked_for_as_it_was_told(described: Path) -> None:
    assert run(described, asked="kernel.guest.toml::heap.free")[1] == {"kernel.guest.toml::heap.free": "FAILED"}
    write(described, "kernel", KTAP.replace(b"not ok", b"ok"), HALT)
    assert run(described, asked="kernel.guest.toml::heap.free", status=0)[1] == {
        "kernel.guest.toml::heap.free": "PASSED"
    }


def test_what_failed_last_is_run_again(described: Path) -> None:
    cache = ("-p", "cacheprovider")
    text = finished(begin(described, *cache, "-vv"), 1)
    again = finished(begin(described, *cache, "-vv", "--lf"), 1)
    assert outcomes(text) == EVERY and outcomes(again) == {"kernel.guest.toml::heap.free": "FAILED"}, again


def test_workers_boot_a_guest_once(described: Path) -> None:
    names = ", ".join(f'"{name.partition("::")[2]}"' for name in EVERY if not name.endswith("run"))
    write(described, "named", KTAP, HALT, f"names = [{names}]")
    text, found = run(described, "-p", "xdist", "-n", "2")
    assert found == {name.replace("kernel.", "named."): was for name, was in EVERY.items()} | EVERY, text
    assert "2 failed, 4 passed, 2 skipped, 2 xfailed" in text
    assert booted(described) == 2


ENDS = {
    "bail": ("1..2\nok 1 a\nBail out! no memory\n", HALT),
    "bytes": (b"1..1\n\x1b[31mnot ok\x1b[0m 1 caf\xe9\x07 # bad\n", HALT),
    "crash": ("KTAP version 1\n1..3\nok 1 a\nok 2", CRASH),
    "exit": ("", leaves(16)),
    "forever": ("1..1\nok 1 a\n", FOREVER),
    "halts": ("ok 1 a\n", HALT),
    "hangs": ("1..2\nok 1 a\n", FOREVER),
    "off": ("PASS a\nPASS a\n", OFF),
    "silent": ("", OFF),
    "skipped": ("1..0 # SKIP no hardware\n", HALT),
}

SAID = {
    "bail": "The guest bailed out: no memory.",
    "crash": "The guest ended as crashed: triple fault at RIP 0x",
    "exit": "ended by a debug exit with status 33; where this is a success, say exit = 33.",
    "halts": "Nobody knows whether that was the last test: let it say at first how many there are (1..N)",
    "hangs": "The guest ended as virtual-timeout",
    "silent": "The guest reported no test, and ended as powered-off",
}


def test_every_end_of_a_guest_is_a_result_or_a_sentence(tmp_path: Path) -> None:
    for name, (text, end) in ENDS.items():
        (tmp_path / f"t-{name}.bin").write_bytes(kernel(text, end))
    (tmp_path / "all.guest.toml").write_text(f'image = "t-*.bin"\n{TOML}[tests]\nvirtual_timeout = 0.5\n')
    text, found = run(tmp_path)
    assert {name.replace("all.guest.toml::t-", "").replace(".bin::", " "): was for name, was in found.items()} == {
        "bail run": "FAILED", "bail a": "PASSED",
        "bytes run": "PASSED", "bytes caf\\xe9": "FAILED",
        "crash run": "FAILED", "crash a": "PASSED", "crash 2": "PASSED",
        "exit run": "FAILED",
        "forever run": "PASSED", "forever a": "PASSED",
        "halts run": "FAILED", "halts a": "PASSED",
        "hangs run": "FAILED", "hangs a": "PASSED",
        "off run": "PASSED", "off a": "PASSED", "off a#2": "PASSED",
        "silent run": "FAILED",
        "skipped run": "SKIPPED",
    }, text  # fmt: skip
    for sentence in SAID.values():
        assert sentence in text
    assert "likely mistake: No IDT is loaded" in text and "no result has the number 3" in text
    kept = re.findall(r"^hypervisor run (.*FAILED.*)$", text, re.M)
    assert len(kept) == len(SAID)
    with hv.boot(kept[0]) as vm:
        assert "Bail out!" in vm.console.text


def test_guests_that_say_it_by_their_exit(tmp_path: Path) -> None:
    for name, end in (("good", leaves(16)), ("bad", leaves(17)), ("ugly", OFF)):
        (tmp_path / f"{name}.bin").write_bytes(kernel("running", end))
    (tmp_path / "all.guest.toml").write_text(f'image = "*.bin"\n{TOML}[tests]\nformat = "exit"\nexit = 33\n')
    text, found = run(tmp_path)
    assert found == {
        "all.guest.toml::bad.bin::run": "FAILED", "all.guest.toml::good.bin::run": "PASSED",
        "all.guest.toml::ugly.bin::run": "FAILED",
    }, text  # fmt: skip
    assert "meant to end by a debug exit with status 33, and ended with status 35." in text
    assert "meant to end by a debug exit with status 33, and ended as powered-off: " in text


BAD = {
    "broken": ("image = ", "it cannot be read"),
    "nothing": ("", "say which guest it is"),
    "typo": (
        'image = "a.bin"\n[tests]\nformt = "tap"\n',
        "formt: tests of a guest have no such option. Did you mean format?",
    ),
    "format": ('image = "a.bin"\n[tests]\nformat = "junit"\n', "choose one of auto, tap"),
    "even": ('image = "a.bin"\n[tests]\nexit = 32\n', "so odd"),
    "never": ('image = "a.bin"\n[tests]\nformat = "exit"\n', "needs the status that is a success"),
    "time": ('image = "a.bin"\n[tests]\ntimeout = "1m"\n', "'1m' is no time limit"),
    "names": ('image = "a.bin"\n[tests]\nnames = [1]\n', "names = [1]: give one str, or a list of them"),
    "table": ('image = "a.bin"\ntests = 3\n', "tests is to be a table"),
    "glob": ('image = "*.elf"\n', "matches no file; build the kernels first"),
}


def test_mistakes_in_descriptions_are_sentences(tmp_path: Path) -> None:
    for name, (text, _) in BAD.items():
        (tmp_path / f"{name}.guest.toml").write_text(text)
    (tmp_path / "absent.guest.toml").write_text('image = "no-such.elf"\n')
    (tmp_path / "option.guest.toml").write_text('image = "hello"\nmemry = "8M"\n')
    text, found = run(tmp_path, "--continue-on-collection-errors")
    for name, (_, sentence) in BAD.items():
        assert re.search(rf"{name}\.guest\.toml: .*{re.escape(sentence)}", text), name
    assert found == {"absent.guest.toml::run": "FAILED", "option.guest.toml::run": "FAILED"}
    assert "no-such.elf" in text and "Did you mean memory?" in text and "Traceback" not in text


PYTHON = f"""
import pytest

OPTIONS = {OPTIONS!r}

def test_results(vm, guest_tests):
    tests = guest_tests(vm("kernel.bin", **OPTIONS), format="tap")
    assert tests.of("failed") == ["heap.free"]
    assert tests["heap.grow"].reason == "no room"
    with pytest.raises(KeyError, match="no test 'heap'; it reported heap.alloc"):
        tests["heap"]

def test_problem(vm, guest_tests):
    guest_tests(vm("kernel.bin", **OPTIONS), names=["other"])
"""


def test_a_test_in_python_tells_what_its_guest_reports(described: Path) -> None:
    (described / "kernel.guest.toml").unlink()
    (described / "test_it.py").write_text(PYTHON)
    text, found = run(described)
    results = {name.partition("::")[2]: was for name, was in EVERY.items() if not name.endswith("run")}
    assert found == {
        "test_it.py::test_results": "PASSED",
        **{f"test_it.py::test_results::{name}": was for name, was in results.items()},
        "test_it.py::test_problem": "FAILED",
        **{f"test_it.py::test_problem::{name}": was for name, was in results.items()},
    }, text
    assert "It did not report other." in text and text.count("guest 1 (kernel.bin): console") == 1


@pytest.mark.parametrize("output", ["serial1", "debugcon"])
def test_a_report_on_another_console(output: str) -> None:
    port = {"serial1": 0x2F8, "debugcon": 0xE9}[output]
    with hv.boot(kernel("1..1\nok 1 a\n", port=port), **OPTIONS) as vm:
        assert run_guest_tests(vm, Expectation()).of("passed") == ["a"]
    with hv.boot(kernel("1..1\nok 1 a\n", port=port), **OPTIONS) as vm:
        found = run_guest_tests(vm, Expectation(output="serial0"))
        assert not found.results and "reported no test" in found.problem
        with pytest.raises(hv.ConfigError, match="output='serial9': the guest writes on serial0"):
            run_guest_tests(vm, Expectation(output="serial9"))


def test_a_report_in_several_documents_is_read_to_its_end() -> None:
    pause = "mov ecx, 20000000; wait1: dec ecx; jnz wait1; "
    text = "TAP version 13\n1..1\nok 1 a\n"
    with hv.boot(kernel(text * 2, OFF), **OPTIONS) as vm:
        assert run_guest_tests(vm, Expectation()).of("passed") == ["a", "a#2"]
    with hv.boot(kernel(text, pause + CRASH), **OPTIONS) as vm:
        found = run_guest_tests(vm, Expectation())
        assert "crashed" in found.problem and found.of("passed") == ["a"]
