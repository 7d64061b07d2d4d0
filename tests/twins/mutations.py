"""What a twin run notices: ``python -m tests.twins.mutations [--moments N] [--seed N]``.

At random moments a machine's state is put back with one field left as it is in a new machine, for each field that has
another value, and the run goes on: whatever is compared must then differ from the run that has forgotten nothing. Some
fields decide nothing that a run of these guests shows, and some never have another value. Each of those is forgotten by
the part itself, and then the tests of fields (``tests/twins/test_machine_fields.py``) must fail. Says for each field
who has noticed; ends with an error if nobody has.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path as FilePath
from random import Random
from typing import Any

import hypervisor as hv
from hypervisor import state as s
from hypervisor.vm.machine_state import MachineState, parts_of
from tests.state.forgetting import Path, fields, get, is_put_back, put
from tests.twins import bios_guest
from tests.twins.guests import shipped
from tests.twins.resume import outcome
from tests.twins.runs import Guest, length_ns
from tests.twins.test_machine_fields import FOLLOWS, follows

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


class Forgetful:
    """A part of a machine that does not put one field back."""

    def __init__(self, part: Any, path: Path) -> None:
        self._part, self._path = part, path
        self.state = part.state

    def restore(self, state: Any) -> None:
        """All but the field."""
        state = s.copied(state)
        put(state, self._path, get(self._part.state(), self._path))
        self._part.restore(state)


class Losses:
    """What was lost, and who noticed."""

    def __init__(self) -> None:
        self.by: dict[str, str] = {}
        """The fields whose loss was noticed, and by whom."""
        self.all: dict[str, tuple[Guest, Field]] = {}
        """Every field, and a guest whose machine has it."""

    @property
    def unnoticed(self) -> list[str]:
        """Fields whose loss nobody has noticed yet."""
        return sorted(self.all.keys() - self.by.keys())

    def look(self, guest: Guest, moments: int, rng: Random) -> None:
        """Lose each field of a guest's state once at each moment, unless its loss has been noticed before."""
        config = hv.MachineConfig.of(None, guest.options)
        end = length_ns(config, guest)
        with hv.boot(config) as vm:
            fresh = vm.state()
            self.all = {_name(field): (guest, field) for field in _fields(fresh)} | self.all
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
            if name in self.by or usual is None or usual == _value(state, field):
                continue
            try:
                vm.restore(_without(state, field, usual))
                lost = outcome(vm, limit_ns)
            except hv.HypervisorError:
                lost = {}
            if lost != good:
                self.by[name] = "the run"

    def look_at_fields(self, rng: Random) -> None:
        """Have the test of fields look at parts that forget what no run has missed."""
        for guest in {id(guest): guest for guest, _ in self.all.values()}.values():
            config = hv.MachineConfig.of(None, guest.options)
            with hv.boot(config) as one, hv.boot(config) as other:
                guest.person(one)
                one.run(virtual_timeout=0.06, timeout=120)
                fresh = other.state().parts
                other.restore(one.state())
                one.place.set_down()
                other.place.set_down()
                ours, theirs = parts_of(one), parts_of(other)
                for name in self.unnoticed:
                    its, (part, path) = self.all[name]
                    if its is guest and path:
                        self._forget(name, ours[part], theirs[part], fresh[part], rng)

    def _forget(self, name: str, part: Any, twin: Any, fresh: Any, rng: Random) -> None:
        path = self.all[name][1][1]
        before, forgetful = twin.state(), Forgetful(twin, path)
        kind = dict(fields(part.state())).get(path)
        if kind is None or follows(path):  # by now there are names in it, or few values can be
            twin.restore(fresh)
            forgetful.restore(part.state())
            if twin.state() != part.state():
                self.by[name] = "test_a_state_is_a_value"
            elif follows(path):
                reason = next(why for one, why in FOLLOWS.items() if path[: len(one)] == one or path[-1:] == one)
                self.by[name] = f"nobody, as {reason}"
        else:
            try:
                is_put_back(part, forgetful, path, kind, rng, follows)
            except (AssertionError, LookupError):  # a name that is not there any more
                self.by[name] = "test_every_field_of_a_machine_is_put_back"
        twin.restore(before)


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
            print(f"{name}: the loss of {len(losses.by)} fields has been noticed", flush=True)
        losses.look_at_fields(rng)
    for who, count in Counter(losses.by.values()).most_common():
        print(f"{count} fields: noticed by {who}")
    print(*(f"  {name}: {who}" for name, who in sorted(losses.by.items()) if who != "the run"), sep="\n")
    raise SystemExit(f"not noticed: {', '.join(losses.unnoticed)}" if losses.unnoticed else 0)


if __name__ == "__main__":
    main()
