"""Machines that are a few lines of Python, in a world: what they do follows from what comes to them, and from nothing
else; so whatever changes in when who runs shows in all that comes after.
"""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

from hypervisor.bus import Line
from hypervisor.bus.clock import ManualClock, Timer
from hypervisor.devices import ethernet_port as e
from hypervisor.network.ethernet import BROADCAST, local_address
from hypervisor.network.link import Link
from hypervisor.network.network import Network
from hypervisor.run.pace import Sleep
from hypervisor.units import FOREVER_NS
from hypervisor.vm.vm import VM
from hypervisor.world.horizons import Timing
from hypervisor.world.member import Member, Socket

EVENTS = 120
"""What one hears and does before it falls silent."""
BLOCKS_NS = 4_000
"""The longest that one does without looking at its time."""


class Clock(ManualClock):
    """Turned by its machine."""

    wall = False

    @property
    def passed_ns(self) -> int:
        return self._now

    def turn_to(self, ns: int) -> None:
        self._now = ns

    def fire(self) -> None:
        self._timers.run_due(self._now)

    @property
    def next_ns(self) -> int:
        return self._timers.next_ns() or FOREVER_NS


class Automaton:
    """Works for some blocks when something has come, sends frames meanwhile, and sleeps until the next thing comes."""

    def __init__(self, number: int, count: int, seed: int, timing: Timing, chatty: float, grain: int) -> None:
        """``grain``: what all its times are multiples of, in nanoseconds."""
        self.number, self.count, self.chatty, self.grain = number, count, chatty, grain
        self.clock, self.log = Clock(), list[tuple[int, str, bytes]]()
        self.waits = self.over = False
        self.frame, self.left, self.before_ns = b"", 3, -1
        self._random = random.Random(f"{seed} {number}")
        self._timer: Timer = self.clock.timer("own", "tick", self._tick)
        self._timer.set(self._span(500_000))
        vm = SimpleNamespace(
            name=f"vm{number}", clock=self.clock, inbox=SimpleNamespace(), on_close=[], look=self._look,
            irq_line=lambda irq: Line("", self._interrupt), dma=self, attach=lambda device, ports: device,
        )  # fmt: skip
        self.member = Member(cast(VM, vm), timing)

    def plug_in(self, network: Network, link: Link) -> None:
        socket = Socket(0x300, 10, local_address(self.number))
        device = self.member.plug_in(network.plug(f"vm{self.number}", link), socket)
        device.write(e.CONTROL, 4, e.RECEIVE | e.INTERRUPT)
        self.devices = [*getattr(self, "devices", []), device]

    def _span(self, most: int) -> int:
        return max(self._random.randrange(1, most) // self.grain, 1) * self.grain

    def _look(self) -> None:
        self.waits = False

    # --- the memory that its interfaces see, and their line

    def read(self, gpa: int, size: int) -> bytes:
        return self.frame

    def write(self, gpa: int, data: bytes) -> None:
        self.log.append((self.clock.now_ns, "heard", data))

    def _interrupt(self, level: bool) -> None:
        if level:
            self.left += self._random.randrange(1, 6)

    def _tick(self) -> None:
        self.log.append((self.clock.now_ns, "tick", b""))
        self.left += self._random.randrange(1, 20)
        if self._random.random() < 0.97 and len(self.log) < EVENTS:
            self._timer.set(self.clock.now_ns + self._span(700_000))

    # --- what it does

    def step(self) -> None:
        """Until the end of a block, or of a sleep, or until it has to wait."""
        now = self.clock.now_ns
        if now >= self.member.horizon_ns and not self.member.come(now):
            self.waits = True
            return
        for one in self.member._taken:
            assert one.at_ns > self.before_ns, "a frame comes in the machine's past"
        self.clock.fire()
        for device in self.devices:
            device.write(e.STATUS, 4, e.RECEIVED)
        if not self.left:
            self._sleep(now)
            return
        self.before_ns = now
        self.left -= 1
        if self._random.random() < self.chatty and len(self.log) < EVENTS:
            other = self._random.randrange(self.count)
            to = BROADCAST if other == self.number else local_address(other)
            self.frame = to + local_address(self.number) + b"\x88\xb5" + self._random.randbytes(50)
            device = self._random.choice(self.devices)
            device.write(e.TX_LENGTH, 4, len(self.frame))
            self.log.append((self.clock.now_ns, "said", self.frame))
        self.clock.turn_to(now + self._span(BLOCKS_NS))

    def _sleep(self, now: int) -> None:
        target = self.clock.next_ns
        answer = self.member.sleep(now, target)
        if answer is Sleep.PASSES:
            self.before_ns = now
            self.clock.turn_to(max(now, target))
        self.waits, self.over = answer is Sleep.WAITS, answer is Sleep.LASTS


def world(
    seed: int, count: int, links: list[Link], networks: int = 1, grain: int = 1
) -> tuple[list[Automaton], Timing]:
    """A world of automata, which all have an interface on each network."""
    timing = Timing()
    timing.networks = [Network(f"lan{n}", seed) for n in range(networks)]
    made = [Automaton(number, count, seed, timing, 0.3, grain) for number in range(count)]
    for network in timing.networks:
        for number, one in enumerate(made):
            one.plug_in(network, links[number % len(links)])
    return made, timing


def play(automata: list[Automaton], order: Any) -> None:
    """Let them run, ``order(those that may)`` and for how many steps, until all sleep for ever."""
    while ready := [one for one in automata if not (one.waits or one.over)]:
        one, steps = order(ready)
        for _ in range(steps):
            if one.waits or one.over:
                break
            one.step()
            for other in automata:  # who has come to its end may hear of something
                other.over = other.over and other.member.station.coming_ns >= FOREVER_NS
    assert all(one.over for one in automata), "they wait for each other"


__all__ = ["Automaton", "play", "world"]
