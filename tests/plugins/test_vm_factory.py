"""The fixture ``vm_factory``: guests that are booted once, forked for each test, and kept where a test failed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import hypervisor as hv
from hypervisor.testing.moments import Moment, MomentFactory
from hypervisor.testing.present_guests import PresentGuests
from tests.plugins.inner_pytest import begin, finished, pytest_run

EXAMPLES = 200
PLACE = 0x700000
"""Memory that the guest does not use."""

CONFTEST = """
import pytest
import hypervisor as hv

boot = hv.boot

def booting(image, **options):
    with open(f"{__file__}.booted", "a") as log:
        print(image, file=log)
    return boot(image, **options)

hv.boot = booting

@pytest.fixture(scope="session")
def ready(vm_factory):
    return vm_factory.moment("ready", "preempt", memory="8M", until=hv.after(0.03))
"""

FAILING = """
import pytest
import hypervisor as hv

def mark(vm, number):
    vm.memory.write(0x700000, bytes([number]))

def test_passes(ready):
    with ready.fork() as vm:
        mark(vm, 1)
    with pytest.raises(ZeroDivisionError), ready.fork() as vm:
        1 / 0

def test_fails(ready, tmp_path):
    with ready.fork() as vm:
        mark(vm, 2)
        vm.run(virtual_timeout=0.001)
        assert False

def test_fails_many_times(ready):  # as Hypothesis does, which tells the last
    for number in range(10, 20):
        try:
            with ready.fork() as one, ready.fork() as vm:
                mark(one, 100)
                mark(vm, number)
                assert number == 0
        except AssertionError as error:
            last = error
    raise last

def test_is_skipped(ready):
    with ready.fork() as vm:
        pytest.skip("not today")

def test_checks(ready):
    with ready.fork() as vm:
        vm.run(virtual_timeout=0.001).check()

def test_has_handlers(vm_factory):
    def prepare(vm):
        vm.traps.port_out(0x80, lambda vcpu, exit: hv.HANDLED, name="count")

    moment = vm_factory.moment("counting", "preempt", memory="8M", until=hv.after(0.001), prepare=prepare)
    with moment.fork() as vm:
        assert False

def test_does_not_come_there(vm_factory):
    vm_factory.moment("never", "hello", memory="8M", until="Goodbye")

def test_boots(vm):
    vm("hello", memory="8M").run()
    assert False
"""


@pytest.fixture(scope="session")
def ready(vm_factory: MomentFactory) -> Moment:
    return vm_factory.moment("ready", "preempt", memory="8M", until=hv.after(0.03))


def go_on(ready: Moment, number: int) -> tuple[Any, ...]:
    """What becomes of a fork, in which an example changes something."""
    with ready.fork() as vm:
        assert vm.memory.read(PLACE, 1) == b"\0"
        vm.memory.write(PLACE, bytes([number]))
        began = vm.clock.now_ns
        vm.run(virtual_timeout=0.0005)
        assert vm.memory.read(PLACE, 1) == bytes([number])
        return began, vm.clock.now_ns, vm.vcpu.rip, vm.vcpu.rsp, vm.console.text, dict(vm.stats)


def test_every_example_goes_on_from_the_same_moment(ready: Moment) -> None:
    assert len([go_on(ready, 1 + number) for number in range(EXAMPLES)]) == EXAMPLES
    assert go_on(ready, 1) == go_on(ready, 2)
    assert go_on(ready, 1)[0] == ready.snapshot.now_ns >= 30_000_000
    assert ready.snapshot.host.vms == []


def test_hypothesis_does_not_complain(ready: Moment) -> None:
    seen = []

    @hypothesis.settings(max_examples=EXAMPLES, database=None, deadline=None)
    @hypothesis.given(hypothesis.strategies.integers(1, 1 << 60))
    def example(number: int) -> None:
        seen.append(go_on(ready, number % 255 + 1))

    example()
    assert len(seen) >= EXAMPLES and all(one == seen[0] for one in seen)


def test_a_moment_is_made_once(vm_factory: MomentFactory, ready: Moment) -> None:
    again = vm_factory.moment("ready", "preempt", memory="8M", until=hv.after(0.03))
    assert again is ready
    with pytest.raises(hv.ConfigError, match="another guest's already"):
        vm_factory.moment("ready", "preempt", memory="16M", until=hv.after(0.03))


def test_a_moment_is_reached_by_a_function() -> None:
    guests = PresentGuests()
    factory = MomentFactory(guests, None)
    moment = factory.moment("there", "hello", memory="8M", reach=lambda vm: vm.expect("Hello"))
    with moment.fork() as vm:
        assert "Hello" in vm.console.text and list(guests)
    assert not list(guests)
    factory.close()
    assert moment.snapshot.closed


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("a/b", {"until": "x"}, "make a name"),
        ("one", {}, "say when"),
        ("two", {"until": "x", "reach": print}, "one of"),
    ],
)
def test_what_is_no_moment_is_refused(name: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(hv.ConfigError, match=why):
        MomentFactory(PresentGuests(), None).moment(name, "hello", **options)


def test_failing_tests_keep_their_guests(tmp_path: Path) -> None:
    text = pytest_run(tmp_path, CONFTEST, FAILING, f"--basetemp={tmp_path / 'temp'}")
    assert "6 failed, 1 passed, 1 skipped" in text, text
    opened = re.findall(r"^hv\.boot\('(.*)'(.*)\)", text, re.M)
    assert [(Path(path).parent.name, Path(path).name) for path, _ in opened] == [
        ("test_fails0", "FAILED.hvs"),
        ("test_fails_many_times0", "FAILED.hvs"), ("test_fails_many_times0", "FAILED-2.hvs"),
        ("test_checks0", "FAILED.hvs"),
        ("test_has_handlers0", "FAILED.hvs"),
        ("test_does_not_come_there0", "FAILED.hvs"),
        ("test_boots0", "FAILED.hvs"),
    ]  # fmt: skip
    assert len(list((tmp_path / "temp").rglob("*.hvs"))) == len(opened)
    assert [path for path, rest in opened if rest] == [opened[4][0]] and "prepare" in opened[4][1]
    assert [path for path, rest in opened if not rest] == re.findall(r"^hypervisor run (.*)$", text, re.M)
    assert "GuestCrashed: The guest ended as virtual-timeout" in text
    assert "guest 1 (never): console" in text and "Hello" in text
    assert (tmp_path / "conftest.py.booted").read_text().split() == ["preempt", "preempt", "hello", "hello"]

    marks = {}
    for path, _ in opened[:3]:
        with hv.boot(path) as vm:
            marks[Path(path).parent.name, Path(path).name] = vm.memory.read(PLACE, 1)[0], vm.clock.now_ns
    assert marks["test_fails0", "FAILED.hvs"][0] == 2 and marks["test_fails0", "FAILED.hvs"][1] >= 31_000_000
    assert sorted(mark for (test, _), (mark, _) in marks.items() if "many" in test) == [19, 100]


def test_files_of_failing_tests_are_few_and_where_they_are_wanted(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nhypervisor_failed_folder = kept\nhypervisor_failed_limit = 2\n")
    tests = "".join(
        f"def test_{name}(ready):\n    with ready.fork() as vm:\n        assert False\n" for name in ("a", "b", "c")
    )
    text = pytest_run(tmp_path, CONFTEST, tests)
    kept = sorted((tmp_path / "kept").rglob("*"))
    assert [path.relative_to(tmp_path / "kept").as_posix() for path in kept] == [
        "test_it.py-test_a", "test_it.py-test_a/FAILED.hvs", "test_it.py-test_b", "test_it.py-test_b/FAILED.hvs",
    ]  # fmt: skip
    assert text.count("(not kept: hypervisor_failed_limit") == 1
    (tmp_path / "pytest.ini").write_text("[pytest]\nhypervisor_failed_limit = many\n")
    assert "hypervisor_failed_limit = many: give a number" in pytest_run(tmp_path, CONFTEST, tests)


WORKER = """
def pytest_configure(config):
    config.workerinput = {"workerid": "gw0"}  # as pytest-xdist does
"""

ENDS = """
import hashlib

def test_the_end(ready):
    with ready.fork() as vm:
        vm.run(virtual_timeout=0.01)
        memory = hashlib.sha256(vm.memory.read(0, 8 << 20)).hexdigest()
        print("END", vm.clock.now_ns, vm.vcpu.rip, sorted(vm.stats.items()), memory)
"""


def test_the_first_of_several_workers_boots(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tmp_path / "root").mkdir()  # where pytest-xdist gives each worker a folder
    (tests / "conftest.py").write_text(CONFTEST + WORKER)
    (tests / "test_it.py").write_text(ENDS)
    runs = [begin(tests, f"--basetemp={tmp_path / 'root' / f'popen-gw{n}'}") for n in range(3)]
    said = [finished(run, 0) for run in runs]
    booted = (tests / "conftest.py.booted").read_text().split()
    file = str(tmp_path / "root" / "moments" / "ready.hvs")
    assert booted == ["preempt", file, file]
    assert len({re.findall(r"END .*", text)[0] for text in said}) == 1


def test_real_workers(tmp_path: Path) -> None:
    tests = ENDS + ENDS.replace("the_end", "another_end") + ENDS.replace("the_end", "a_third_end")
    pytest_run(tmp_path, CONFTEST, tests, "-n", "2", "-p", "xdist", f"--basetemp={tmp_path / 'root'}", status=0)
    booted = (tmp_path / "conftest.py.booted").read_text().split()
    assert booted == ["preempt", str(tmp_path / "root" / "moments" / "ready.hvs")]
