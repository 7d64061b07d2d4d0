"""A host with little memory left asks guests with balloons before it swaps: who, for how much, and what they keep."""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.memory.balloons import LOOK_S, Balloons, parts
from hypervisor.units import MIB, PAGE_SHIFT, PAGE_SIZE
from hypervisor.vm.balloon import BY_HOST, GIVE, USE, WANTED
from tests.memory.giving import CACHE_PAGES, GIVEN, ROUND, balloon_of, giving, rounds_more, word
from tests.memory.scarce import count, scarce

ASKED = hv.What.ASKED
MANY = 40
"""Looks after which whoever answers has given what is wanted: each leaves a part of what is missing."""


@pytest.fixture
def host() -> Iterator[hv.Host]:
    with scarce("16M", 2) as host:
        yield host


def left(host: hv.Host) -> int:
    """Frames that whoever comes first may take."""
    return host.memory.unreserved >> PAGE_SHIFT


def look(vms: list[hv.VM], times: int = 1) -> None:
    """Let guests run until the host has looked so often who has given what, and all have heard of it."""
    for _ in range(times):
        time.sleep(LOOK_S)
        rounds_more(vms, 2)


def together(vms: list[hv.VM], until: Callable[[], bool]) -> None:
    """Let guests run at the same time until something holds."""
    for vm in vms:
        vm.start(timeout=60)
    while not until() and all(vm.runner is not None for vm in vms):
        time.sleep(0.001)
    for vm in vms:
        result = vm.stop()
        assert result is not None and result.reason is hv.Reason.STOPPED, result
    assert until()


def idle(host: hv.Host, name: str, memory: str = "8M") -> hv.VM:
    """A VM without a balloon, that has run: its pages may be merged and swapped."""
    vm = host.create_vm(b"\xeb\xfe", memory=memory, format="flat", mode=32, at=0x10000, name=name)
    vm.run(virtual_timeout=1e-5)
    return vm


class Growing:
    """VMs without balloons that come to have more and more pages, which are like no others."""

    def __init__(self, host: hv.Host, count: int) -> None:
        self._host = host
        self._vms = [idle(host, f"grows {n}") for n in range(count)]
        self._rng = random.Random(count)
        self._pages = 0

    def grow(self, pages: int) -> None:
        """By so many."""
        for _ in range(pages):
            at, which = divmod(self._pages, len(self._vms))
            self._vms[which].memory.write(MIB + at * PAGE_SIZE, self._rng.randbytes(PAGE_SIZE))
            self._pages += 1

    def leave(self, frames: int) -> None:
        """Until so many are left for whoever comes first: those come behind what each has for sure."""
        while left(self._host) > frames:
            self.grow(1)

    def check(self) -> None:
        """Each page is as it was stored, wherever it is now."""
        rng = random.Random(len(self._vms))
        for page in range(self._pages):
            at, which = divmod(page, len(self._vms))
            assert self._vms[which].memory.read(MIB + at * PAGE_SIZE, PAGE_SIZE) == rng.randbytes(PAGE_SIZE)


def test_the_order_in_which_frames_come_back(host: hv.Host) -> None:
    memory, balloons = host.memory, host.memory.balloons
    gives, other, growing = giving(host, 1), idle(host, "other"), Growing(host, 2)
    for content in (b"z", bytes(1)):  # pages of zeros that take frames
        other.memory.write(MIB, content * MIB)
    other.memory.write(2 * MIB, b"y" * MIB)
    found = []

    def note() -> None:
        counts = host.sharing.counts
        found.append([counts.zeroed > 0, counts.replaced > 0, balloons_lent() > 0, memory.swapped > 0])
        count(host)

    def balloons_lent() -> int:
        return balloon_of(gives).lent

    look([gives])
    growing.leave(balloons.plenty)
    note()
    host.sharing.scan(1)
    note()
    host.sharing.scan(2)
    note()
    assert host.sharing.counts.zeroed >= 256 and host.sharing.counts.replaced >= 255
    growing.leave(balloons.plenty)
    for _ in range(40):
        growing.grow(64)
        look([gives])
        note()
        if memory.swapped:
            break
        assert left(host) >= balloons.few or word(gives, GIVEN) == CACHE_PAGES, "it has not given what it could"
    assert len(found) > 10 and word(gives, GIVEN) == CACHE_PAGES, "swapped before the guest had given all that it could"
    assert found[0] == [False] * 4 and found[-1] == [True] * 4
    assert all(one <= other for one, other in itertools.pairwise(found)), found
    growing.check()


def test_who_does_not_answer_delays_nobody(host: hv.Host) -> None:
    silent, gives, growing = giving(host, 1, answers=False, name="silent"), giving(host, 2), Growing(host, 2)
    rounds_more([silent, gives])
    with host.events() as events:
        silent.start(timeout=60)  # so it is asked, too
        growing.leave(host.memory.balloons.few - 1)
        for _ in range(MANY):
            look([gives])
            if left(host) >= host.memory.balloons.enough:
                break
        missing = host.memory.balloons.enough - host.memory.balloons.few
        assert balloon_of(gives).lent >= missing > balloon_of(silent).lent == 0, "one has given all"
        assert host.memory.swapped == 0 and left(host) >= host.memory.balloons.enough
        while silent.runner is not None and balloon_of(silent).asked:  # no more, as there is enough
            time.sleep(0.001)
        assert silent.stop() is not None and word(silent, ROUND) > 1, "it went on"
        heard = list(iter(lambda: events.next(0.0), None))
    messages = [event.message for event in heard if (event.vm, event.what) == ("silent", ASKED)]
    assert len(messages) >= 2 and "little memory left" in messages[0] and "for nothing" in messages[-1]
    count(host)


class Slow:
    """A giver that hears of what it is asked for when it likes."""

    listens, spare, lent, asked = True, 500, 0, 0

    def __init__(self) -> None:
        self.coming: int | None = None

    def ask(self, pages: int) -> bool:
        if pages == self.asked:
            return True
        if self.coming is not None:
            return False
        self.coming = self.asked = pages
        return True


def test_who_has_not_heard_of_the_last_is_told_again_that_there_is_enough() -> None:
    balloons, slow = Balloons(4096), Slow()
    balloons.join(slow)
    balloons.look(balloons.few - 1)
    assert slow.coming is not None and slow.coming > 0
    for heard in (False, False, True):
        if heard:
            slow.coming = None
        time.sleep(LOOK_S)
        balloons.look(balloons.enough)
        assert (slow.asked == 0) is heard
    slow.coming = None
    time.sleep(LOOK_S)
    balloons.look(balloons.enough)
    assert slow.coming is None, "once is enough"


def test_one_thing_is_asked_for_at_a_time(host: hv.Host) -> None:
    gives = giving(host, 1)
    balloon = balloon_of(gives)  # the guest stands, so what it is asked for waits
    assert [balloon.ask(5), balloon.ask(5), balloon.ask(0), balloon.asked] == [True, True, False, 5]
    for _ in range(MANY):
        look([gives])
        if balloon.asked == 0:  # there is enough
            break
    assert balloon.asked == 0


def test_what_was_promised_for_sure_is_not_asked_for() -> None:
    with closing(hv.Host("16M", 1, overcommit=2, swap="8M")) as host:
        gives, growing = giving(host, 1), Growing(host, 3)
        growing.leave(300)
        look([gives], 3)
        pages = gives.memory.pages
        assert pages.alone == pages.kept == 2 * MIB and balloon_of(gives).lent > 200
        count(host)


def test_what_is_given_and_taken_back_keeps_every_byte(host: hv.Host) -> None:
    """The guests themselves compare all bytes in each round."""
    gives = [giving(host, n, name=f"gives {n}") for n in range(2)]
    rounds_more(gives)
    with host.events() as events:
        for _ in range(2):
            with idle(host, "passes", "14M") as other:
                for at in range(MIB, 14 * MIB, PAGE_SIZE):
                    if left(host) > 300:
                        other.memory.write(at, b"x")
                together(gives, lambda: left(host) >= host.memory.balloons.enough)
                given = [word(vm, GIVEN) for vm in gives]
                assert sum(given) > 400
                for vm, pages in zip(gives, given, strict=True):
                    assert 0 <= balloon_of(vm).held - pages <= 1, "it may have been stopped in between"
                figures = [vm.figures().memory for vm in gives]
                assert [one.ballooned for one in figures] == [balloon_of(vm).held * PAGE_SIZE for vm in gives]
                count(host)
            together(gives, lambda: not any(balloon_of(vm).held for vm in gives))
            rounds_more(gives)
            assert [balloon_of(vm).held for vm in gives] == [balloon_of(vm).wanted for vm in gives] == [0, 0]
            count(host)
        heard = [event for _ in range(1000) if (event := events.next(0.0)) is not None]
    told = {vm.name: [one.message for one in heard if one.vm == vm.name and one.what is ASKED] for vm in gives}
    assert sum(map(len, told.values())) >= 4
    for messages in told.values():  # by turns
        assert all("little memory left" in one for one in messages[::2]), messages
        assert all("for nothing any more" in one for one in messages[1::2]), messages


def test_one_that_refuses_is_not_asked_and_its_pages_go_to_the_swap_file(host: hv.Host) -> None:
    refuses, growing = giving(host, 1, most=0), Growing(host, 3)
    rounds_more([refuses])
    growing.leave(300)
    look([refuses], 3)
    growing.grow(600)
    look([refuses])
    assert host.memory.swapped > 0 and host.memory.balloons.asked == balloon_of(refuses).wanted == 0
    growing.check()
    balloon_of(refuses).want(20)
    rounds_more([refuses], 2)
    assert word(refuses, GIVEN) == 20, "what is wanted by hand is another thing"


def test_at_most_so_much_is_asked_and_beside_what_is_wanted_by_hand(host: hv.Host) -> None:
    gives, growing = giving(host, 1, most=30), Growing(host, 2)
    balloon_of(gives).want(10)
    rounds_more([gives], 2)
    growing.leave(300)
    look([gives], 4)
    assert (balloon_of(gives).wanted, balloon_of(gives).lent, word(gives, GIVEN)) == (40, 30, 40)


def seen(vm: hv.VM) -> tuple[object, ...]:
    """What a guest has done."""
    memory = hashlib.sha256(vm.memory.read(0, 8 * MIB)).hexdigest()
    return vm.clock.now_ns, memory, vm.vcpu.rip, vm.vcpu.eax, vm.vcpu.edi, balloon_of(vm).state()


def test_a_recording_repeats_what_the_host_has_asked(host: hv.Host, tmp_path: Path) -> None:
    gives, growing = giving(host, 1), Growing(host, 2)
    rounds_more([gives])
    gives.save(tmp_path / "before")
    gives.inbox.recording = recording = []
    growing.leave(300)
    look([gives], 3)
    gives.inbox.recording = None
    assert {one.to for one in recording} == {BY_HOST} and word(gives, GIVEN) > 50
    expected = seen(gives)
    roomy = hv.Host("64M", 1)
    for other in (roomy, host):  # which has less left than ever
        with other.create_vm(tmp_path / "before", plugins=[hv.Balloon]) as again:
            again.inbox.replay(recording)
            again.run(virtual_timeout=(gives.clock.now_ns - again.clock.now_ns) / 1e9, timeout=60)
            assert seen(again) == expected
            look([again], 2)
            assert balloon_of(again).wanted == balloon_of(gives).wanted, "it hears what the first one heard, no more"
    roomy.close()


def test_one_that_goes_on_where_there_is_plenty_gets_its_memory_back(host: hv.Host, tmp_path: Path) -> None:
    gives, growing = giving(host, 1), Growing(host, 2)
    rounds_more([gives])
    growing.leave(300)
    look([gives], 3)
    gives.save(tmp_path / "lent")
    with closing(hv.Host("64M", 1)) as roomy, roomy.create_vm(tmp_path / "lent", plugins=[hv.Balloon]) as again:
        assert balloon_of(again).held > 50
        look([again], 3)
        rounds_more([again])
        assert (balloon_of(again).held, balloon_of(again).wanted, word(again, GIVEN)) == (0, 0, 0)


def test_what_each_is_asked_for_is_in_proportion() -> None:
    rng = random.Random(5)
    for _ in range(500):
        have = [rng.randrange(-3, 10 ** rng.randrange(1, 6)) for _ in range(rng.randrange(6))]
        pages = rng.randrange(10**5)
        found = [part for _, part in parts(have, pages, lambda one: one)]
        whole = sum(max(one, 0) for one in have)
        assert min(pages, whole) <= sum(found) <= min(pages + len(have), whole)
        for one, part in zip(have, found, strict=True):
            exactly = min(pages / max(whole, 1), 1) * max(one, 0)
            assert exactly <= part + 1e-6 < exactly + 1.001 and part <= max(one, 0)


@pytest.mark.parametrize(("number", "count", "answer"), [(USE, 3, 1), (USE, 513, 0), (USE, 0, 0), (GIVE, 1, 1)])
def test_what_a_guest_says_is_counted_within_bounds(number: int, count: int, answer: int) -> None:
    """One page is given before."""
    found: list[hv.Balloon] = []

    def setup(vm: hv.VM) -> None:
        found.append(hv.Balloon())
        found[0].attach(vm)

    code = f"vmmcall; mov eax, {number}; mov ecx, {count}; vmmcall; mov rbp, rax; mov eax, {WANTED}; vmmcall; hlt"
    result = hv.run_asm(code, regs={"rax": GIVE, "rbx": 0x80000, "rcx": 1}, setup=setup)
    assert (result.rbp, result.rax) == (answer, 0)
    assert found[0].held == (2 if number == GIVE else 1 - answer) and found[0].given == 1 + (number == GIVE)
