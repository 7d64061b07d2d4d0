"""What a twin run notices: ``python -m tests.twins.mutations [--moments N] [--seed N]``.

At random moments a machine's state is put back with one field left as it is in a new machine, for each field that has
another value, and the run goes on: whatever is compared must then differ from the run that has forgotten nothing. Lists
the fields whose loss nobody noticed, and those that never had another value: those are put back and looked at one by
one by ``tests/twins/test_machine_fields.py`` and ``tests/devices/test_fields.py``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path as FilePath
from random import Random
from typing import Any

import hypervisor as hv
from hypervisor import state as s
from hypervisor.vm.machine_state import MachineState
from tests.state.forgetting import Path, fields, get, put
from tests.twins import bios_guest
from tests.twins.guests import shipped
from tests.twins.resume import outcome
from tests.twins.runs import Guest, length_ns

Field = tuple[str, Path]
AHEAD_NS = 30_000_000
"""How far a run goes on behind the moment, at most: a loss shows soon, or at the end in the state."""


def _fields(state: MachineState) -> Iterator[Field]:
    for part, r in state.parts.items():
        if not part.startswith(("memory", "drive")):  # their bytes are compared as they are
            yield from ((part, path) for path, _ in fields(r))


def _value(state: MachineState, field: Field) -> Any:
    try:
        return get(state.parts[field[0]], field[1])
    except (IndexError, KeyError):
        return None


def _without(state: MachineState, field: Field, value: Any) -> MachineState:
    part = s.copied(state.parts[field[0]])
    put(part, field[1], value)
    return MachineState({**state.parts, field[0]: part})


def _name(field: Field) -> str:
    return f"{field[0]}: {'.'.join(map(str, field[1]))}"


class Losses:
    """What was lost, and who noticed."""

    def __init__(self) -> None:
        self.noticed: set[str] = set()
        self.unnoticed: set[str] = set()
        self.all: set[str] = set()

    def look(self, guest: Guest, moments: int, rng: Random) -> None:
        """Lose each field of a guest's state once at each moment, unless its loss has been noticed before."""
        config = hv.MachineConfig.of(None, guest.options)
        end = length_ns(config, guest)
        with hv.boot(config) as vm:
            fresh = vm.state()
            self.all |= {_name(field) for field in _fields(fresh)}
            guest.person(vm)
            for moment in sorted(rng.randrange(1, end) for _ in range(moments)):
                left = moment - vm.clock.now_ns
                if left > 0:
                    vm.run(virtual_timeout=left / 1e9, timeout=120)
                state = vm.state()
                self._lose(vm, state, fresh, min(vm.clock.now_ns + AHEAD_NS, int(guest.limit_s * 1e9)))
                vm.restore(state)

    def _lose(self, vm: hv.VM, state: MachineState, fresh: MachineState, limit_ns: int) -> None:
        good = outcome(vm, limit_ns)
        for field in _fields(state):
            name, usual = _name(field), _value(fresh, field)
            if name in self.noticed or usual is None or usual == _value(state, field):
                continue
            try:
                vm.restore(_without(state, field, usual))
                lost = outcome(vm, limit_ns)
            except hv.HypervisorError:
                lost = {}
            (self.unnoticed if lost == good else self.noticed).add(name)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    losses, rng = Losses(), Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        guests = {"bios": bios_guest.make(FilePath(folder)), **shipped()}
        for name, guest in guests.items():
            losses.look(guest._replace(options={"memory": "2M", **guest.options}), given.moments, rng)
            print(f"{name}: the loss of {len(losses.noticed)} fields has been noticed", flush=True)
    unnoticed = losses.unnoticed - losses.noticed
    never = losses.all - losses.noticed - unnoticed
    print(f"\nnever another value than in a new machine ({len(never)}):", *sorted(never), sep="\n  ")
    print(f"\nnot noticed ({len(unnoticed)}):", *sorted(unnoticed), sep="\n  ")


if __name__ == "__main__":
    main()
