"""Machines that are cast are what those that are built are: the same objects in the same places, none of them another
machine's. How they go on is compared by `tests.snapshots.exact`, most of whose forks are cast.
"""

from __future__ import annotations

import gc
import io
import random
import threading
import types
import weakref
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import hypervisor as hv
from hypervisor.state import record
from hypervisor.vm.casting import mould
from hypervisor.vm.casting.object_program import Uncastable, program
from tests.twins import bios_guest
from tests.twins.guests import shipped
from tests.twins.runs import Guest

ATOMS = (int, str, float, bytes, type(None))
ITS_OWN = {("VM", "began"), ("VM", "name"), ("VmClock", "base_ns"), ("Hpet", "_now_ns")}
"""What is another in each machine. (The HPET notes the time at the beginning of each access, for that access alone.)"""
ELSEWHERE = (
    "hypervisor.engine.",
    "hypervisor.memory.",
    "hypervisor.symbols.",
    "hypervisor.run.sharing.",
    "hypervisor.backends.",
)
"""Rooms whose objects are not looked into: each machine makes its own, which have addresses or names in them."""
GUESTS = {name: guest for name, guest in shipped().items() if name in ("hello", "long", "preempt", "apic", "smp 2")}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mould, "BUILT", 2)


def guests(folder: Path) -> dict[str, Guest]:
    """Some with one vCPU and with two, with drives and with firmware's services."""
    return {**GUESTS, "bios": bios_guest.make(folder)}


def children(one: Any) -> Iterator[tuple[str, Any]]:
    """What an object refers to, by names that do not depend on which machine's it is."""
    if isinstance(one, types.MethodType):
        yield from (("self", one.__self__), ("function", one.__func__))
    elif isinstance(one, types.BuiltinFunctionType):
        yield from (("self", one.__self__), ("name", one.__name__))
    elif isinstance(one, types.FunctionType):
        yield from enumerate_(cell.cell_contents for cell in one.__closure__ or ())
        yield from (("code", one.__code__), ("defaults", one.__defaults__), ("space", one.__globals__))
    elif isinstance(one, partial):
        yield from (("function", one.func), ("arguments", one.args), ("named", one.keywords))
    elif isinstance(one, dict):
        yield from enumerate_(one.keys())
        yield from enumerate_(one.values())
    elif isinstance(one, (list, tuple, deque)):
        yield from enumerate_(one)
    elif isinstance(one, (set, frozenset)):
        yield from enumerate_(sorted(one, key=repr))
    elif isinstance(one, bytearray):
        yield "bytes", bytes(one)
    for name in sorted(set(getattr(one, "__dict__", ())) | slots(one)):
        if hasattr(one, name):
            yield name, getattr(one, name)


def enumerate_(parts: Any) -> Iterator[tuple[str, Any]]:
    """Parts by their numbers."""
    return ((f"[{number}]", part) for number, part in enumerate(parts))


def slots(one: Any) -> set[str]:
    """The names of an object's slots."""
    names = [getattr(kind, "__slots__", ()) for kind in type(one).__mro__]
    return {name for some in names for name in ((some,) if isinstance(some, str) else some)} - {
        "__weakref__",
        "__dict__",
    }


def unlike(one: object, other: object) -> tuple[list[str], list[object], Counter[str]]:
    """Where two graphs' objects are different ones, or lie in other places; those that both have; and how many of each
    kind were compared, but for tuples and for dictionaries of numbers and texts: of equal ones there may be one or
    several.
    """
    found: list[str] = []
    common: list[object] = []
    there: dict[int, Any] = {}
    back: dict[int, Any] = {}
    todo: list[tuple[str, Any, Any]] = [("", one, other)]
    while todo:
        path, a, b = todo.pop()
        kind = type(a)
        if kind is not type(b):
            found.append(f"{path}: {kind.__qualname__}, {type(b).__qualname__}")
        elif kind in ATOMS or isinstance(a, ATOMS):
            if a != b:
                found.append(f"{path}: {a!r:.60}, {b!r:.60}")
        elif a is b:
            if gc.is_tracked(a):
                common.append(a)
        elif id(a) in there or id(b) in back:
            if there.get(id(a)) is not b or back.get(id(b)) is not a:
                if kind is not types.MethodType and not isinstance(a, tuple):  # values, of which there may be several
                    found.append(f"{path}: another {kind.__qualname__} than elsewhere")
        else:
            there[id(a)], back[id(b)] = b, a
            if kind.__module__.startswith(ELSEWHERE) or kind.__module__ in ("random", "_random", "_thread", "ctypes"):
                continue
            ours, theirs = dict(children(a)), dict(children(b))
            if ours.keys() != theirs.keys():
                found.append(f"{path}: {sorted(ours.keys() ^ theirs.keys())}")
            for name in ours.keys() & theirs.keys():
                if (kind.__name__, name) not in ITS_OWN:
                    todo.append((f"{path}.{name}", ours[name], theirs[name]))
    several = [
        one for one in there.values() if type(one) is not tuple and (type(one) is not dict or gc.is_tracked(one))
    ]
    return found, common, Counter(type(one).__name__ for one in several)


def kinds_of(objects: Iterable[object]) -> set[str]:
    """The names of their classes."""
    return {f"{type(one).__module__}.{type(one).__qualname__}" for one in objects}


class Node:
    """As one of ours."""

    __module__ = "hypervisor.devices.node"

    def __init__(self, *parts: object) -> None:
        self.parts = parts
        self.other: object = None

    def method(self) -> None:
        """Does nothing."""


class Slotted:
    """Likewise, without a dictionary."""

    __module__ = "hypervisor.devices.node"
    __slots__ = ("first", "second")

    def __init__(self, first: object, second: object) -> None:
        self.first, self.second = first, second


class Frozen(NamedTuple):
    """Likewise."""

    first: object
    second: object


Frozen.__module__ = "hypervisor.devices.node"


def any_graph(rng: random.Random) -> list[Any]:
    """Objects that refer to each other as chance has it."""
    made: list[Any] = [None, 7, -1, True, "text", "it's", b"bytes", 1.5, float("inf"), float("-inf"), 1 << 70, range(3)]
    one, two = (lambda: made[rng.randrange(len(made))]), (lambda: (made[rng.randrange(len(made))], made[-1]))
    mutable: list[Any] = []

    def closure(value: object) -> Any:
        def inner(more: object = value) -> object:
            return value, more, late

        late = one()
        inner.__module__ = "hypervisor.devices.node"
        return inner

    for _ in range(40):
        made.append(
            rng.choice(
                [
                    lambda: list(two()), two, lambda: {"a": one(), 5: one()}, lambda: deque(two(), 9), bytearray,
                    lambda: Counter({"a": 3}), lambda: {1, "two"}, lambda: frozenset((1, "two")), lambda: Node(*two()),
                    lambda: Slotted(*two()), lambda: Frozen(*two()), lambda: partial(Node, one(), named=one()),
                    lambda: closure(one()), lambda: Node().method, threading.RLock, threading.Lock,
                    lambda: [].append, lambda: bytearray(b"some"), lambda: partial(len),
                ]
            )()
        )  # fmt: skip
        if isinstance(made[-1], (list, Node)):
            mutable.append(made[-1])
    for each in mutable:  # circles
        if isinstance(each, list):
            each.append(one())
        else:
            each.other = one()
    return made


@pytest.mark.parametrize("seed", range(60))
def test_any_graph_is_copied(seed: int) -> None:
    before = gc.get_objects()
    graph = any_graph(random.Random(seed))
    core = [Node()]
    graph[20:20] = core
    make, outside = program(graph, core, before)
    theirs = Node()
    copies = [make([theirs, *outside]) for _ in range(2)]
    for copy in copies:
        assert copy[20] is theirs
        found, common, count = unlike(graph, copy)
        assert not found
        assert {id(each) for each in common} <= {id(each) for each in [*before, theirs]}
        assert count.total() > 10
    assert not unlike(*copies)[0]


def test_what_cannot_be_copied_says_so() -> None:
    closed = threading.Lock()
    closed.acquire()
    for one in (memoryview(b"bytes"), closed, io.StringIO(), hv.MachineConfig, lambda: None, weakref.ref(Node())):
        if one is hv.MachineConfig:
            assert program([one], [], [])[1] == [one]
            continue
        with pytest.raises(Uncastable):
            program([one], [], [])


@pytest.mark.parametrize("name", [*GUESTS, "bios"])
def test_a_machine_that_is_cast_has_the_objects_of_one_that_is_built(name: str, tmp_path: Path) -> None:
    guest = guests(tmp_path)[name]
    config = hv.MachineConfig.of(None, {"memory": "4M", **guest.options})
    with hv.Host("64M", 1) as host, host.create_vm(config) as vm:
        guest.person(vm)
        vm.run(virtual_timeout=0.0003)
        with vm.snapshot() as snapshot, snapshot.fork() as built, snapshot.fork() as written:
            assert snapshot.casting.mould is not None, snapshot.casting.refused
            with snapshot.fork() as cast, snapshot.fork() as again:
                expected, common, count = unlike(built, written)
                assert not expected and count.total() > 500
                for one, other in ((built, cast), (written, cast), (cast, again)):
                    found, shared, compared = unlike(one, other)
                    assert not found
                    assert kinds_of(shared) <= kinds_of(common), "objects that two machines have"
                    assert compared == count
                assert cast.state().parts == again.state().parts == built.state().parts


def test_by_the_wall_clock_too_beside_a_neighbour_that_kicks() -> None:
    """Built and cast machines go on at once on one pCPU, from the same moment, and each interrupt comes to its own."""
    with hv.Host("64M", 1) as host, host.create_vm("preempt", memory="8M", clock="wall") as vm:
        vm.run(virtual_timeout=0.02)
        with vm.snapshot() as snapshot, snapshot.fork() as built, snapshot.fork() as written:
            assert snapshot.casting.mould is not None, snapshot.casting.refused
            with snapshot.fork() as cast, snapshot.fork() as again:
                found, _, count = unlike(built, cast)
                assert not found and count == unlike(built, written)[2]
                forks = (built, cast, again)
                for fork in forks:
                    fork.start(timeout=60)
                for _ in range(300):
                    host.pcpus[0].kick()
                    assert again.now >= snapshot.now_ns / 1e9
                texts = []
                for fork in forks:
                    end = fork.wait()
                    assert end is not None and end.reason is hv.Reason.POWERED_OFF, end
                    texts.append(fork.console.text)
                assert all("preempt: good" in text for text in texts), texts  # it counts slices of the wall clock, too


def test_what_one_does_no_other_sees() -> None:
    with hv.Host("64M", 1) as host, host.create_vm("hello", memory="16M") as vm:
        with vm.snapshot() as snapshot:
            forks = [snapshot.fork() for _ in range(4)]
            assert snapshot.casting.mould is not None
            before = forks[3].state()
            forks[2].run()
            assert "Hello" in forks[2].console.text and forks[3].console.text == ""
            assert forks[3].state() == before
            later = snapshot.fork()
            assert later.state() == before
            for fork in (forks[3], later):
                assert fork.run().exits == forks[2].result.exits
                assert fork.console.text == forks[2].console.text


@record
class LampState:
    """Nothing."""


class Lamp(hv.Device[LampState]):
    """A user's device."""

    def __init__(self) -> None:
        super().__init__("lamp", LampState())

    def read(self, offset: int, size: int) -> int:
        """Off."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """It stays off."""


def test_what_is_not_ours_is_built_each_time() -> None:
    lamps: list[Lamp] = []

    def lamp(vm: hv.VM, parts: Any) -> Lamp:
        lamps.append(Lamp())
        return lamps[-1]

    board = hv.pc().with_part(hv.Part("lamp", lamp, ports=((range(0x700, 0x701), 0x700),)))
    with hv.Host("64M", 1) as host, host.create_vm("hello", memory="16M", board=board) as vm:
        with vm.snapshot() as snapshot:
            for _ in range(4):
                with snapshot.fork() as fork:
                    assert fork.run().exits
            assert snapshot.casting.mould is None and "Lamp" in snapshot.casting.refused
            assert len(lamps) == 5


def test_preparations_and_plugins_are_made_each_time() -> None:
    seen: list[hv.VM] = []
    with hv.Host("64M", 1) as host, host.create_vm("hello", memory="16M") as vm:
        with vm.snapshot() as snapshot:
            for _ in range(4):
                snapshot.fork().close()
            assert snapshot.casting.mould is not None
            with snapshot.fork(prepare=seen.append) as fork:
                assert seen == [fork]
            with snapshot.clone("another") as clone:
                assert clone.config.identity


def test_memory_is_given_back() -> None:
    with hv.Host("64M", 1) as host, host.create_vm("hello", memory="16M") as vm:
        with vm.snapshot() as snapshot:
            for _ in range(4):
                snapshot.fork().close()
            promises, used = len(host.memory.promises), host.memory.used
            for _ in range(50):
                with snapshot.fork() as fork:
                    fork.run()
            assert (len(host.memory.promises), host.memory.used) == (promises, used)
            gc.collect()
            alive = sum(issubclass(type(one), hv.VM) and one.host is host for one in gc.get_objects())
            assert alive <= 2, "machines that were closed are kept, besides the one that ran last"
