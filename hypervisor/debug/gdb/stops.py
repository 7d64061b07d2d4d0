"""gdb's breakpoints and watchpoints, as traps: guest memory is never patched, so the guest cannot see them.

A handler cannot talk to gdb, as handlers come and go only while the guest waits. It notes why the guest is to stop,
asks for a pause, and has the instruction retried; what happens next is `hypervisor.debug.gdb.gdb_session`'s.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypervisor.errors import ConfigError
from hypervisor.traps.verdicts import PASS, RETRY, Verdict

MAX_WATCHPOINTS = 32
"""Half of what the engine has: the rest is the guest's and the user's."""

MAX_BREAKPOINTS = 1024
"""More than anybody sets; each costs the host memory."""

MAX_LENGTH = 1 << 16
"""Bytes that a watchpoint covers at most."""

_LABELS = {0: "swbreak", 1: "hwbreak", 2: "watch", 3: "rwatch", 4: "awatch"}
"""Words of the stop reply for the types of ``Z`` packets (the gdb manual, appendix E.3)."""

_ACCESS = {2: "w", 3: "r", 4: "rw"}


class Cause(NamedTuple):
    """Why a vCPU stopped: its number and the words of the stop reply."""

    vcpu: int
    words: str


class Stops:
    """The breakpoints and watchpoints of a session. All methods are for the time when the guest waits."""

    def __init__(self, vm: Any) -> None:
        self._vm = vm
        self._breakpoints: dict[int, set[int]] = {}
        self._watchpoints: set[tuple[int, int, int]] = set()
        self.stepping = False
        """Whether the session steps: then breakpoints let pass, and watchpoints say at once what was touched."""
        self.causes: list[Cause] = []
        self.touching: Any = None
        """The vCPU that is about to touch what is watched: step it to know."""

    def insert(self, kind: int, address: int, length: int) -> None:
        """``Z``: the same one twice is one. Raises `ConfigError` where there is no room."""
        if kind not in _LABELS:
            raise ConfigError(f"there is no breakpoint type {kind}.")
        if kind in _ACCESS:
            self._watch(kind, address, length)
            return
        if address not in self._breakpoints and len(self._breakpoints) >= MAX_BREAKPOINTS:
            raise ConfigError(f"there are {MAX_BREAKPOINTS} breakpoints at most.")
        kinds = self._breakpoints.setdefault(address, set())
        if not kinds:
            self._vm.traps.execute(address, self._reached, rank="private", name=_break_name(address))
        kinds.add(kind)

    def remove(self, kind: int, address: int, length: int) -> None:
        """``z``: one that is not there is no error."""
        if kind in _ACCESS:
            if (kind, address, length) in self._watchpoints:
                self._watchpoints.discard((kind, address, length))
                self._vm.traps.remove(_watch_name(kind, address, length))
            return
        kinds = self._breakpoints.get(address, set())
        kinds.discard(kind)
        if not kinds and self._breakpoints.pop(address, None) is not None:
            self._vm.traps.remove(_break_name(address))

    def clear(self) -> None:
        """Remove all of them."""
        for address, kinds in list(self._breakpoints.items()):
            for kind in list(kinds):
                self.remove(kind, address, 0)
        for watchpoint in list(self._watchpoints):
            self.remove(*watchpoint)
        self.causes.clear()
        self.touching = None

    def at(self, address: int) -> bool:
        """Whether there is a breakpoint at a linear address."""
        return address in self._breakpoints

    def _watch(self, kind: int, address: int, length: int) -> None:
        if (kind, address, length) in self._watchpoints:
            return
        if not 0 < length <= MAX_LENGTH:
            raise ConfigError(f"a watchpoint covers 1 to {MAX_LENGTH} bytes.")
        if len(self._watchpoints) >= MAX_WATCHPOINTS:
            raise ConfigError(f"there are {MAX_WATCHPOINTS} watchpoints at most.")
        cause = f"{_LABELS[kind]}:{address:x};"

        def touched(vcpu: Any, exit: Any) -> Verdict:
            if self.stepping:
                self.causes.append(Cause(vcpu.number, cause))
                return PASS
            self.touching = vcpu
            self._vm.request_pause()
            return RETRY

        self._vm.traps.memory(
            range(address, address + length),
            touched,
            access=_ACCESS[kind],
            space="virtual",
            rank="private",
            name=_watch_name(kind, address, length),
        )
        self._watchpoints.add((kind, address, length))

    def _reached(self, vcpu: Any, exit: Any) -> Verdict:
        if self.stepping:
            return PASS
        label = _LABELS[min(self._breakpoints[exit.address])]
        self.causes.append(Cause(vcpu.number, f"{label}:;"))
        self._vm.request_pause()
        return RETRY


def _break_name(address: int) -> str:
    return f"gdb.break-{address:#x}"


def _watch_name(kind: int, address: int, length: int) -> str:
    return f"gdb.{_LABELS[kind]}-{address:#x}-{length}"
