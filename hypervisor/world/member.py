"""A machine in a world: its interfaces, and what paces its runs."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from hypervisor.devices import ethernet_port
from hypervisor.devices.ethernet_port import EthernetPort
from hypervisor.errors import ConfigError
from hypervisor.network.ethernet import MAX_FRAME
from hypervisor.network.network import MOST_COMING, Port
from hypervisor.outcome.result import Reason
from hypervisor.run.pace import Sleep
from hypervisor.state import blob, copied, flag, number, record, several, time_ns
from hypervisor.vm.vm import VM
from hypervisor.world.horizons import Station, Timing

FINAL = frozenset({Reason.POWERED_OFF, Reason.HALTED, Reason.CRASHED, Reason.DEBUG_EXIT, Reason.RESET})
"""Ends of a run behind which a guest does nothing any more: nobody waits for it."""
MAX_INTERFACES = 8


class Socket(NamedTuple):
    """Where an interface is on its machine's board, and its address."""

    base: int
    irq: int
    mac: bytes


@record
class TakenState:
    """A frame that comes to an interface, by its number, as the machine knows already."""

    at_ns: int = time_ns()
    interface: int = number(0, MAX_INTERFACES - 1)
    frame: bytes = blob(MAX_FRAME)


@record
class MemberState:
    """The fields of a `Station` that are its own, the time before which all frames are known, and those frames."""

    stands_ns: int = time_ns()
    asleep: bool = flag()
    horizon_ns: int = time_ns()
    knows_ns: int = time_ns()
    promised_ns: int = time_ns()
    out: bool = flag()
    taken: list[TakenState] = several(TakenState, MOST_COMING)


class Member:
    """What a run of the machine asks (`hypervisor.run.pace.Pace`), and where frames come to it and go from it."""

    def __init__(self, vm: VM, timing: Timing) -> None:
        """Raises `ConfigError` for a machine that follows the wall clock."""
        if vm.clock.wall:
            raise ConfigError(
                f"{vm.name} follows the wall clock, which waits for nobody: machines on a network share virtual time "
                "(clock='virtual')."
            )
        self.vm, self._timing = vm, timing
        self.station = Station(vm.name, vm.look, stands_ns=vm.clock.now_ns)
        self.sockets: list[Socket] = []
        self._interfaces: list[EthernetPort] = []
        self._taken: deque[TakenState] = deque()
        self._timer = vm.clock.timer("network", "frame", self._deliver)
        self.horizon_ns = 0
        """See `hypervisor.run.pace.Pace`: it knows of all frames that come before this. Its station's may be later by
        now, as others have come further."""
        self.going_back = False
        """Whether its world goes back to another time with it."""
        with timing.lock:
            timing.stations.append(self.station)
        vm.pace = self
        vm.inbox.earliest_ns = self.earliest_ns
        vm.on_close.append(self.leave)

    def plug_in(self, port: Port, socket: Socket) -> EthernetPort:
        """Give the machine an interface that is plugged in there. Raises `ConfigError` and `DeviceError`."""
        number = len(self._interfaces)
        if number >= MAX_INTERFACES:
            raise ConfigError(f"{self.vm.name} has {MAX_INTERFACES} network interfaces, which is all that it can have.")
        vm, clock, station, lock = self.vm, self.vm.clock, self.station, self._timing.lock

        def send(frame: bytes) -> None:
            with lock:
                port.send(max(clock.now_ns, station.promised_ns), frame)

        device = EthernetPort(vm.irq_line(socket.irq), vm.dma, send, socket.mac, f"ethernet{number}")
        vm.attach(device, ports=range(socket.base, socket.base + ethernet_port.SIZE))
        self._interfaces.append(device)
        self.sockets.append(socket)
        with lock:
            station.ports.append(port)
        return device

    # --- frames that come ---------------------------------------------------------------------------------------------

    def _take(self) -> None:
        """Let the machine know of all that comes before its horizon; with the lock, on its own thread."""
        ports = self.station.ports
        found = [
            (one.at_ns, number, one.order, one.frame)
            for number, port in enumerate(ports)
            for one in port.take(self.station.horizon_ns - 1)
        ]
        self.horizon_ns = self.station.horizon_ns
        self._taken.extend(TakenState(at_ns, number, frame) for at_ns, number, _, frame in sorted(found))
        self._set()

    def _set(self) -> None:
        self._timer.put_back(self._taken[0].at_ns if self._taken else -1)

    def _deliver(self) -> None:
        passed_ns = self.vm.clock.passed_ns
        while self._taken and self._taken[0].at_ns <= passed_ns:
            one = self._taken.popleft()
            self._interfaces[one.interface].receive(one.frame)
        self._set()

    # --- what its run asks --------------------------------------------------------------------------------------------

    def come(self, now_ns: int) -> bool:
        """See `hypervisor.run.pace.Pace`."""
        station = self.station
        with self._timing.lock:
            station.stands_ns, station.asleep, station.waits_ns = now_ns, False, -1
            woken = self._timing.settle()
            self._take()
            goes_on = self.horizon_ns > now_ns
            if not goes_on:
                station.waits_ns = now_ns
        _wake(woken)
        return goes_on

    def sleep(self, now_ns: int, until_ns: int) -> Sleep:
        """See `hypervisor.run.pace.Pace`."""
        station = self.station
        with self._timing.lock:
            station.stands_ns, station.asleep, station.waits_ns = until_ns, True, -1
            woken = self._timing.settle()
            before = len(self._taken)
            self._take()
            if len(self._taken) > before and self._taken[0].at_ns < until_ns:
                station.stands_ns, station.asleep = self._taken[0].at_ns, False
                answer = Sleep.WOKEN
            elif self._timing.silent:
                station.waits_ns = until_ns
                answer = Sleep.LASTS
            elif until_ns < self.horizon_ns:
                station.asleep = False
                answer = Sleep.PASSES
            else:
                station.waits_ns = until_ns
                answer = Sleep.WAITS
        _wake([one for one in woken if one is not station])
        return answer

    def earliest_ns(self, now_ns: int) -> int:
        """See `hypervisor.run.pace.Pace`."""
        station = self.station
        with self._timing.lock:
            at_ns = max(now_ns, station.promised_ns)
            if station.asleep:
                station.stands_ns = min(station.stands_ns, at_ns)
        return at_ns

    def check_may_begin(self) -> None:
        """See `hypervisor.run.pace.Pace`."""
        if self.station.out:
            raise ConfigError(
                f"The guest of {self.vm.name} has ended, and the machines on its network have gone on without it; go "
                "on from a snapshot of their world."
            )

    def check_may_go_back(self) -> None:
        """See `hypervisor.run.pace.Pace`."""
        if not self.going_back:
            raise ConfigError(
                f"{self.vm.name} shares its time with the machines on its network, so it cannot go back alone: "
                "have the world do that."
            )

    def over(self, reason: Reason) -> None:
        """See `hypervisor.run.pace.Pace`."""
        if reason in FINAL:
            self.leave()
            return
        station = self.station
        with self._timing.lock:
            if not station.asleep:  # else it has said more than how far it has come
                station.stands_ns = self.vm.clock.now_ns
            woken = self._timing.settle()
        _wake(woken)

    def leave(self) -> None:
        """Nobody waits for the machine any more, and nothing comes to it."""
        with self._timing.lock:
            self.station.out = True
            for port in self.station.ports:
                port.coming.clear()
            woken = self._timing.settle()
        _wake(woken)

    # --- state --------------------------------------------------------------------------------------------------------

    def state(self) -> MemberState:
        """A copy of what is not in the machine's own state. With the lock, while it stands still."""
        one = self.station
        taken = [copied(frame) for frame in self._taken]
        return MemberState(one.stands_ns, one.asleep, one.horizon_ns, self.horizon_ns, one.promised_ns, one.out, taken)

    def restore(self, state: MemberState) -> None:
        """Go on from ``state``; with the lock, while the machine stands still."""
        one = self.station
        one.stands_ns, one.asleep, one.out = state.stands_ns, state.asleep, state.out
        one.horizon_ns, one.promised_ns, one.waits_ns = state.horizon_ns, state.promised_ns, -1
        self.horizon_ns = state.knows_ns
        self._taken = deque(copied(frame) for frame in state.taken)
        self._set()


def _wake(stations: list[Station]) -> None:
    for station in stations:
        station.wake()


__all__ = ["FINAL", "Member", "MemberState", "Socket"]
