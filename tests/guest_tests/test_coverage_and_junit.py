"""``--guest-coverage``, JUnit's file and the report of a failure, by pytest itself."""

from __future__ import annotations

import re
import struct
import subprocess
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

import hypervisor as hv
from hypervisor.testing.guest_coverage import SENT, CoverageWriter
from hypervisor.vm.watching.line_counts import Function, LineCounts
from tests.guest_tests.kernels import CRASH, HALT, OPTIONS, kernel, write
from tests.plugins.inner_pytest import begin, finished
from tests.programs import program, run

LINES = """static void put(char c) {
  __asm__ volatile("outb %0, %1" : : "a"(c), "d"((short)0x3f8));
}
static volatile int choice;
__attribute__((noinline)) static void one(void) {
  put('1');
}
__attribute__((noinline)) static void two(void) {
  put('2');
}
void _start(void) {
  if (choice)
    one();
  else
    two();
  __asm__ volatile("outw %0, %1" : : "a"((short)0x2000), "d"((short)0x604));
}
__asm__(".pushsection .multiboot, \\"a\\"; .balign 4; .long 0x1badb002, 0, -0x1badb002; .popsection");
"""
FLAGS = (
    "-m32 -g -O0 -ffreestanding -fno-pic -no-pie -nostdlib -static -fno-asynchronous-unwind-tables "
    "-Wl,-n,-Ttext=0x100000,--build-id=none,--no-warn-rwx-segments"
)

TESTS = """
import pytest
import hypervisor as hv

def chosen(vm, number):
    vm.memory.write(vm.symbols["choice"], bytes([number]))
    vm.run(timeout=60).check()
    assert vm.console.text == "21"[number]

@pytest.mark.parametrize("number", NUMBERS)
def test_boots(vm, number):
    chosen(vm("k.elf", memory="8M"), number)

@pytest.fixture(scope="session")
def begun(vm_factory):
    return vm_factory.moment("begun", "k.elf", until=hv.after(0), memory="8M")

@pytest.mark.parametrize("number", NUMBERS)
def test_forks(begun, number):
    with begun.fork() as vm:
        chosen(vm, number)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lines")
    (made / "k.c").write_text(LINES)
    subprocess.run([program("gcc"), *FLAGS.split(), "-o", "k.elf", "k.c"], cwd=made, check=True)
    return made


def counted(path: Path) -> dict[int, int]:
    """What a report says of k.c, read by the book (geninfo(1))."""
    text = path.read_text()
    (record,) = text.split("end_of_record\n")[:-1]
    assert record.startswith("TN:\nSF:k.c\n")
    lines = {int(number): int(count) for number, count in re.findall(r"^DA:(\d+),(\d+)$", record, re.M)}
    assert f"\nLF:{len(lines)}\nLH:{sum(map(bool, lines.values()))}\n" in record
    return lines


def functions_of(path: Path) -> dict[str, tuple[int, int]]:
    """Line and count of each function that a report has, read by the book."""
    text = path.read_text()
    lines = dict((name, int(line)) for line, name in re.findall(r"^FN:(\d+),(.*)$", text, re.M))
    counts = dict((name, int(count)) for count, name in re.findall(r"^FNDA:(\d+),(.*)$", text, re.M))
    assert f"\nFNF:{len(lines)}\nFNH:{sum(map(bool, counts.values()))}\n" in text and set(lines) == set(counts)
    return {name: (lines[name], counts[name]) for name in lines}


def by_binutils(image: Path) -> dict[str, int]:
    """Functions and their lines, as nm and addr2line tell them."""
    found = (line.split() for line in run("nm", image).splitlines())
    places = {name: address for address, kind, name in found if kind in "tT"}
    told = run("addr2line", "-e", image, *places.values()).splitlines()
    return {name: int(line.rpartition(":")[2]) for name, line in zip(places, told, strict=True)}


@pytest.mark.parametrize("workers", [0, 2])
def test_lines_of_all_guests_are_counted_together(folder: Path, tmp_path: Path, workers: int) -> None:
    (folder / "test_it.py").write_text(TESTS.replace("NUMBERS", "[0, 0, 1]"))
    to = tmp_path / "new" / "c.lcov"
    parallel = ("-p", "xdist", "-n", str(workers)) if workers else ()
    text = finished(begin(folder, f"--guest-coverage={to}", *parallel), 0)
    lines = counted(to)
    assert (lines[6], lines[9]) == (2, 4)  # one() for each 1, two() for each 0
    assert lines[16] == 6 <= lines[2] and not set(lines) - set(range(1, 18))
    told = rf"^{re.escape(str(to))}: {len(lines)} of {len(lines)} lines \(100 %\), 4 of 4 functions$"
    assert re.search(told, text, re.M), text
    functions = functions_of(to)
    assert {name: count for name, (_, count) in functions.items()} == {"_start": 6, "one": 2, "two": 4, "put": 6}
    assert {name: line for name, (line, _) in functions.items()} == by_binutils(folder / "k.elf")


def test_a_line_that_no_guest_executes(folder: Path, tmp_path: Path) -> None:
    (folder / "test_it.py").write_text(TESTS.replace("NUMBERS", "[0]"))
    text = finished(begin(folder, f"--guest-coverage={tmp_path / 'c.lcov'}"), 0)
    lines = counted(tmp_path / "c.lcov")
    assert lines[6] == 0 and lines[13] == 0 and lines[9] == 2
    assert f"{sum(map(bool, lines.values()))} of {len(lines)} lines (" in text and "(100 %)" not in text
    assert functions_of(tmp_path / "c.lcov")["one"] == (5, 0) and ", 3 of 4 functions" in text


def test_genhtml_shows_lines_and_functions(folder: Path, tmp_path: Path) -> None:
    with hv.boot(str(folder / "k.elf"), memory="8M") as vm:
        vm.coverage.start()
        vm.run(timeout=60).check()
        (tmp_path / "c.lcov").write_text(vm.coverage.lcov())
    lines = counted(tmp_path / "c.lcov")
    (tmp_path / "k.c").write_text(LINES)
    said = run("genhtml", "--function-coverage", "-o", "report", "c.lcov", cwd=tmp_path)
    assert re.search(rf"lines\.*: .*\({sum(map(bool, lines.values()))} of {len(lines)} lines\)", said), said
    assert re.search(r"functions\.*: 75\.0% \(3 of 4 functions\)", said), said
    page = next((tmp_path / "report").rglob("k.c.func.html")).read_text()
    shown = re.findall(r'">(\w+)</a></td>\s*<td class="coverFn(?:Lo|Hi)">(\d+)<', page)
    assert dict(shown) == {"_start": "1", "one": "0", "two": "1", "put": "1"}


def test_the_plugin_writes_the_same(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "c.lcov"
    with hv.boot(str(folder / "k.elf"), memory="8M", plugins=[("coverage", {"to": str(to)})]) as vm:
        vm.run(timeout=60).check()
        lcov = vm.coverage.lcov()
    assert to.read_text() == lcov and counted(to)[9] == 1 and counted(to)[6] == 0
    assert re.search(r"coverage: \d+ of \d+ lines were executed: ", capfd.readouterr().err)
    image = subprocess.run([program("objcopy"), "-g", "k.elf", str(tmp_path / "bare.elf")], cwd=folder, check=True)
    assert image.returncode == 0
    for options, said in (({}, "has no source lines"), ({"symbols": str(folder / "k.elf")}, "lines were executed")):
        with hv.boot(str(tmp_path / "bare.elf"), memory="8M", plugins=[("coverage", {"to": str(to), **options})]) as vm:
            vm.run(timeout=60).check()
        assert said in capfd.readouterr().err
    assert to.read_text() == lcov


def test_a_report_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    text = finished(begin(tmp_path, "--guest-coverage=test_it.py/new/c.lcov"), 4)
    assert "--guest-coverage: " in text and "cannot be written: Not a directory" in text


def test_counts_add_up() -> None:
    counts = LineCounts()
    counts.add({("b.c", 2): True, ("b.c", 1): False})
    counts.add({("b.c", 2): True, ("a.c", 9): False})
    other = LineCounts()
    other.add_counts(counts.files)
    other.add_counts({"a.c": {9: 3}})
    assert other.files == {"a.c": {9: 3}, "b.c": {1: 0, 2: 2}} and other.totals() == (2, 3)
    other.add({}, {Function("a.c", 9, "f"): True, Function("b.c", 1, "f"): False})
    other.add_counts({}, [("a.c", 9, "f", 2), ("a.c", 3, "f", 1)])
    assert other.function_totals() == (2, 3)
    assert other.lcov() == (
        "TN:\nSF:a.c\nFN:3,f\nFNDA:4,f\nFNF:1\nFNH:1\nDA:9,3\nLF:1\nLH:1\nend_of_record\n"
        "TN:\nSF:b.c\nFN:1,f\nFNDA:0,f\nFNF:1\nFNH:0\nDA:1,0\nDA:2,2\nLF:2\nLH:1\nend_of_record\n"
    )


def test_a_worker_that_ends_badly_is_named(tmp_path: Path) -> None:
    writer, said = CoverageWriter(tmp_path / "c.lcov"), list[str]()
    for number, sent in enumerate(({SENT: ({"a.c": {1: 1, 2: 0}}, [])}, {}, {SENT: ({"a.c": {1: 1}}, [])})):
        node = SimpleNamespace(gateway=SimpleNamespace(id=f"gw{number}"), workeroutput=sent)
        writer.pytest_testnodedown(node, None if sent else "crashed")
    reporter: Any = SimpleNamespace(write_sep=lambda *_: None, write_line=said.append)
    writer.pytest_terminal_summary(reporter)
    assert said == [
        f"{tmp_path / 'c.lcov'}: 1 of 2 lines (50 %)", "without what these workers saw, which ended badly: gw1",
    ]  # fmt: skip
    assert writer.counts.files == {"a.c": {1: 2, 2: 0}}


# --- JUnit ------------------------------------------------------------------------------------------------------------

JUNIT = f"""
OPTIONS = {OPTIONS!r}

def test_passes(vm):
    print("printed here")
    vm("long.bin", **OPTIONS).run(timeout=60)

def test_fails(vm, vm_factory):
    with vm_factory.moment("m", "long.bin", until="line 1 ", **OPTIONS).fork() as fork:
        fork.run(timeout=60)
    vm("odd.bin", **OPTIONS).run(timeout=60).check()

def test_without_guests():
    pass
"""


@pytest.mark.parametrize(("logging", "workers"), [("no", 0), ("system-out", 2), ("no-passing", 0)])
def test_junit_has_the_consoles(tmp_path: Path, logging: str, workers: int) -> None:
    long = "".join(f"line {n} \n" for n in range(10_000))
    (tmp_path / "long.bin").write_bytes(kernel(long, HALT))
    (tmp_path / "odd.bin").write_bytes(kernel(b"odd \0\x1b\x08\xff <&]]> end\n", CRASH))
    write(tmp_path, "k", "1..2\nhello\nok 1 a\nfor b\nnot ok 2 b\n", HALT)
    (tmp_path / "test_it.py").write_text(JUNIT)
    settings = {
        "no": "", "system-out": "junit_logging = system-out\n", "no-passing": "junit_log_passing_tests = false\n",
    }[logging]  # fmt: skip
    (tmp_path / "pytest.ini").write_text(f"[pytest]\njunit_family = xunit2\n{settings}")
    parallel = ("-p", "xdist", "-n", str(workers)) if workers else ()
    finished(begin(tmp_path, "--capture=fd", f"--junit-xml={tmp_path / 'j.xml'}", *parallel), 1)
    cases = {case.get("name"): case for case in ElementTree.parse(tmp_path / "j.xml").iter("testcase")}
    assert set(cases) == {"run", "a", "b", "test_passes", "test_fails", "test_without_guests"}
    outs = {name: [out.text or "" for out in case.iter("system-out")] for name, case in cases.items()}
    assert all(len(out) <= 1 for out in outs.values())
    said = {name: out[0] for name, out in outs.items() if out and "---" in out[0]}
    passing = set() if logging == "no-passing" else {"run", "a", "test_passes"}
    assert set(said) - {"test_without_guests"} >= {"b", "test_fails"} | passing
    assert "--- b\nfor b" in said["b"]
    assert "--- m\n" in said["test_fails"] and "line 9999 \n" in said["test_fails"]
    assert "--- odd.bin\nodd #x00#x1B#x08\ufffd <&]]> end\n" in said["test_fails"]
    if passing:
        assert "--- k\n1..2\nhello\nok 1 a\nfor b\nnot ok 2 b\n" in said["run"] and "--- a\nhello" in said["a"]
        assert "line 9999 \n" in said["test_passes"] and "line 1 \n" not in said["test_passes"]
        assert "characters left out" in said["test_passes"] and len(said["test_passes"]) < 20_000
        assert ("printed here" in said["test_passes"]) == (logging == "system-out")
    else:
        assert not {"run", "a", "test_passes"} & set(said)


# --- the report of a failure ------------------------------------------------------------------------------------------

FAILURE = """
def test_fails(vm):
    kernel = vm("screen.bin", memory="8M")
    kernel.run(timeout=60)
    assert kernel.serial[0].text == "nothing"
"""


def test_a_failure_shows_what_there_is(tmp_path: Path) -> None:
    from tests.sectors import boot_sector

    code = """
        mov ax, 0xb800; mov ds, ax; mov word ptr [0], 0x0748; mov word ptr [2], 0x0769
        mov dx, 0x3f8; mov al, 0x73; out dx, al; mov al, 0xa; out dx, al
        mov al, 0x20; out 0x80, al; mov ebx, 0x12345678
        cli; hlt
    """
    (tmp_path / "screen.bin").write_bytes(boot_sector(code))
    picture = "mov ax, 0x13; int 0x10; mov ax, 0xa000; mov es, ax; mov byte ptr es:[321], 15; cli; hlt"
    (tmp_path / "picture.bin").write_bytes(boot_sector(picture))
    (tmp_path / "test_it.py").write_text(
        FAILURE + FAILURE.replace("test_fails", "test_picture").replace("screen.bin", "picture.bin")
    )
    text = finished(begin(tmp_path), 1)
    for heading, shown in (
        ("console", "s\n"), ("screen", "Hi"), ("state", "last run: halted"), ("state", "ebx 12345678"),
        ("state", "code at 0x7c"), ("state", "exits and interrupts, newest last:"), ("state", "hlt at 0x7c"),
        ("as it was when the test failed", "hypervisor run "),
    ):  # fmt: skip
        (part,) = re.findall(rf"^-+ guest 1 \(screen\.bin\): {heading} -+\n(.*?)^-[-=]", text + "\n--", re.M | re.S)[
            :1
        ] or [""]
        assert shown in part, (heading, text)
    assert "guest 1 (picture.bin): screen -" in text and "\n(a picture, 320x200x8)\n" in text
    (path,) = re.findall(r"^its screen: (.*FAILED\.png)$", text, re.M)
    width, height, rows = pixels(Path(path).read_bytes())
    assert (width, height) == (320, 200)
    assert [(x, y) for y in range(height) for x in range(width) if rows[y][3 * x : 3 * x + 3] != bytes(3)] == [(1, 1)]


def pixels(png: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height and rows of a PNG of 8-bit colours without filters (RFC 2083)."""
    chunks, at = [], 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4])
        chunks.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + size]))
        at += 12 + size
    width, height, depth, kind = struct.unpack(">IIBB", dict(chunks)[b"IHDR"][:10])
    assert (depth, kind) == (8, 2)
    data = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    lines = [data[y * (3 * width + 1) : (y + 1) * (3 * width + 1)] for y in range(height)]
    assert not any(line[0] for line in lines)
    return width, height, [line[1:] for line in lines]
