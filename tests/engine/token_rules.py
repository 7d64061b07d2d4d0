"""The rules by which pCPUs pass the token, with a clock and threads that are made up; uncompiled (`test_token`)."""

from __future__ import annotations

import ctypes
import os
import random
import sys
import threading
from typing import Any

from hypervisor.engine import block as b
from hypervisor.engine.kernels.vmexit import token
from hypervisor.engine.shared_words.token_words import BRIEF, LENT, TOKEN

US = 2_500
"""Cycles of the made up clock."""
BLOCK_ALIGNMENT = 64


class Cpu:
    """A pCPU's block, as far as the token goes."""

    def __init__(self, name: int) -> None:
        self._room = (ctypes.c_int64 * ((b.SIZE + BLOCK_ALIGNMENT) >> 3))()
        self.at = ctypes.addressof(self._room) + -ctypes.addressof(self._room) % BLOCK_ALIGNMENT
        self.put(b.TOKEN, ctypes.addressof(TOKEN))
        self.put(b.CPU_CLOCK, name)

    def put(self, word: int, value: int) -> None:
        """Set a word of the block."""
        ctypes.c_int64.from_address(self.at + word).value = value

    def ran(self, now: int, guest_us: int, python_us: int = 3) -> None:
        """Its guest has run for so long until now, behind an exit."""
        self.put(b.ENTERED, now - guest_us * US)
        self.put(b.LEFT, now - (guest_us + python_us) * US)

    @property
    def has_it(self) -> bool:
        """Whether it is the owner."""
        return TOKEN.owner & ~(LENT | BRIEF) == self.at


class World:
    """What the kernels see of the host: its time, which threads execute, and what happens meanwhile."""

    def __init__(self) -> None:
        self.now, self.slept, self.executing = 1 << 40, 0, {0, 1, 2}
        self._cpu_times = {0: 0, 1: 0, 2: 0}
        self.meanwhile: list[tuple[int, Any]] = []
        """What happens at which time, in order."""

    def pass_time(self, cycles: int) -> None:
        """Time passes, and what others do in it is done."""
        self.now += cycles
        for name in self.executing:
            self._cpu_times[name] += cycles * 1000 // US
        while self.meanwhile and self.meanwhile[0][0] <= self.now:
            self.meanwhile.pop(0)[1]()

    def cycles(self) -> int:
        """The host's counter."""
        self.pass_time(25)
        return self.now

    def usleep(self, _function: int, microseconds: int) -> int:
        """Sleep."""
        self.slept += microseconds
        for _ in range(microseconds):
            self.pass_time(US)
        return 0

    def clock(self, _function: int, name: int, at: int) -> int:
        """What a thread has executed; a thread that is gone has number 9."""
        if name == 9:
            return -1
        seconds, rest = divmod(self._cpu_times[name], 1_000_000_000)
        ctypes.c_int64.from_address(at).value, ctypes.c_int64.from_address(at + 8).value = seconds, rest
        return 0


def begin() -> tuple[World, Cpu, Cpu]:
    """A world where nobody has the token; the second pCPU has come back from a guest that ran for long, often."""
    world = World()
    TOKEN.owner = TOKEN.next = TOKEN.taken_at = TOKEN.since = TOKEN.cpu_clock = 0
    token.cycles, token.call1, token.call2 = world.cycles, world.usleep, world.clock  # type: ignore[attr-defined]
    return world, Cpu(0), Cpu(1)


def exits(world: World, cpu: Cpu, *, guest_us: int, python_us: int = 3, times: int = 1) -> None:
    """So many exits of a pCPU: the guest runs, then Python."""
    for _ in range(times):
        token.lend(cpu.at)
        world.pass_time(guest_us * US)
        token.take(cpu.at)
        world.pass_time(python_us * US)


def alone() -> None:
    world, cpu, _ = begin()
    exits(world, cpu, guest_us=1, times=10)
    exits(world, cpu, guest_us=1000, times=10)
    assert cpu.has_it and world.slept == 0


def one_that_needs_it_briefly_gets_it_at_the_next_exit() -> None:
    world, busy, other = begin()
    exits(world, other, guest_us=100, times=4)
    token.lend(other.at)
    exits(world, busy, guest_us=1, times=50)  # (takes it: it is lent by one that has it briefly)
    assert busy.has_it
    began = world.now
    world.meanwhile = [(began + 2 * US, lambda: token.lend(busy.at))]  # in Python for so long
    token.take(other.at)
    assert other.has_it and world.slept == 0 and world.now < began + 3 * US
    world.meanwhile = [(world.now + 4 * US, lambda: token.lend(other.at))]
    token.take(busy.at)  # who waits for such a one waits in a loop
    assert busy.has_it and world.slept == 0


def two_that_exit_all_the_time_take_turns() -> None:
    world, one, other = begin()
    token.lend(other.at)
    exits(world, one, guest_us=1, times=20)
    began, counted = TOKEN.taken_at, 0

    def go_on() -> None:
        nonlocal counted
        counted += 1
        if one.has_it:
            token.lend(one.at)
            if one.has_it:
                token.take(one.at)
        world.meanwhile.append((world.now + 3 * US, go_on))

    world.meanwhile = [(world.now, go_on)]
    other.ran(world.now, guest_us=1)
    token.take(other.at)
    turn = world.now - began
    assert other.has_it and TOKEN.next == 0
    assert token.TURN < turn < 1.2 * token.TURN, turn / token.TURN
    assert counted > 1000 and world.slept > 3000  # the one worked, the other slept


def a_lent_token_is_taken_when_the_guest_runs_on() -> None:
    world, one, other = begin()
    token.lend(other.at)
    exits(world, one, guest_us=1, times=20)
    token.lend(one.at)
    other.ran(world.now, guest_us=1)
    began = world.now
    token.take(other.at)
    assert other.has_it and token.LONG - 2 * US < world.now - began < token.LONG + 400 * US


def one_that_sleeps_in_a_handler_is_not_waited_for() -> None:
    world, sleeper, other = begin()
    token.lend(other.at)
    exits(world, sleeper, guest_us=1, times=5)
    other.ran(world.now, guest_us=1)
    world.executing = {1}
    began = world.now
    token.take(other.at)
    assert other.has_it and world.slept == 0 and world.now - began < 2 * token.LOOK
    exits(world, other, guest_us=1, times=100)
    world.executing = {0, 1}
    token.lend(sleeper.at)  # it was taken away: so it needs the lock briefly
    world.meanwhile = [(world.now + 2 * US, lambda: token.lend(other.at))]
    token.take(sleeper.at)
    assert sleeper.has_it and TOKEN.owner & BRIEF and world.slept == 0


def a_thread_that_is_gone_is_not_waited_for() -> None:
    world, gone, other = begin()
    gone.put(b.CPU_CLOCK, 9)
    exits(world, gone, guest_us=1)
    exits(world, other, guest_us=1)
    assert other.has_it and world.slept == 0


def whoever_lets_go_has_it_no_more() -> None:
    world, one, other = begin()
    exits(world, one, guest_us=1, times=5)
    token.let_go(other.at)
    assert one.has_it
    token.let_go(one.at)
    assert TOKEN.owner == 0
    exits(world, other, guest_us=1)
    assert other.has_it and world.slept == 0


def a_process_that_forks_leaves_it_behind() -> None:
    world, cpu, _ = begin()
    exits(world, cpu, guest_us=1)
    TOKEN.next = cpu.at
    child = os.fork()
    if child == 0:
        os._exit(1 if TOKEN.owner or TOKEN.next else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cpu.has_it


def threads_at_random() -> None:
    """Every wait ends, in any interleaving, and nothing is left behind."""
    import time

    begin()
    token.cycles, token.call2 = time.perf_counter_ns, lambda *_: -1  # type: ignore[attr-defined]
    token.call1 = lambda function, us: time.sleep(us / 1e6)  # type: ignore[attr-defined]
    done, served = [], [0] * 4

    def work(number: int) -> None:
        chance, cpu = random.Random(number), Cpu(number)
        for _ in range(400):
            token.lend(cpu.at)
            for _ in range(chance.choice((0, 0, 0, 300))):
                pass
            token.take(cpu.at)
            served[number] += 1
            if chance.random() < 0.02:
                token.let_go(cpu.at)
        token.let_go(cpu.at)
        done.append(number)

    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(done) == [0, 1, 2, 3] and served == [400] * 4
    assert TOKEN.next == 0


RULES = (
    alone,
    one_that_needs_it_briefly_gets_it_at_the_next_exit,
    two_that_exit_all_the_time_take_turns,
    a_lent_token_is_taken_when_the_guest_runs_on,
    one_that_sleeps_in_a_handler_is_not_waited_for,
    a_thread_that_is_gone_is_not_waited_for,
    whoever_lets_go_has_it_no_more,
    a_process_that_forks_leaves_it_behind,
    threads_at_random,
)

if __name__ == "__main__":
    for rule in RULES:
        rule()
        print(rule.__name__, flush=True)
