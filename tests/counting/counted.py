"""One count: a guest of one kind, disturbed in one way, under one clock."""

from __future__ import annotations

import random

import hypervisor as hv
from tests.counting.guests import CODE, DATA, KINDS, Arrived
from tests.counting.ways import WAYS, RingError

PATIENCE_S = 120.0
_GOES_ON = (hv.Reason.TIMEOUT, hv.Reason.STOPPED)


def count(kind: str, way: str, clock: str, seed: int) -> list[str]:
    """What does not agree, as sentences; none is right."""
    what, rng = KINDS[kind], random.Random(f"{kind} {way} {clock} {seed}")
    arrived = Arrived()
    with hv.Host("32M", 1) as host:
        vm = host.create_vm(
            what.image(), memory="4M", format="flat", at=CODE, mode=what.mode, clock=clock, name="counted"
        )
        if what.attach is not None:
            what.attach(vm, arrived)
        with WAYS[way](vm, rng):
            result = _run(vm, way, rng)
        if result.reason is not hv.Reason.HALTED:
            return [f"ended as {result.reason.value}: {result.message}"]
        problems = list(arrived.wrong)
        register = "rbp" if what.whole else "r15"
        for name, found, expected in (
            (f"the guest counted in {register}", vm.vcpu.get(register), what.guest(what.rounds)),
            ("handlers counted", arrived.count, what.arrived(what.rounds) if what.attach else 0),
            (f"exits of kind {what.exits}", vm.stats[what.exits] if what.exits else 0, what.rounds * bool(what.exits)),
        ):
            if found != expected:
                problems.append(f"{name}: {found} instead of {expected}")
        if what.memory is not None:
            expected_bytes = what.memory(what.rounds)
            if vm.memory.read(DATA, len(expected_bytes)) != expected_bytes:
                problems.append("memory is not what the rounds make of it")
    return problems


def _run(vm: hv.VM, way: str, rng: random.Random) -> hv.RunResult:
    """Run to the guest's end, however often something else ends a run."""
    while True:
        try:
            if way == "steps":
                vm.vcpu.step(rng.randrange(1, 40))
            result = vm.run(timeout=0.001 + rng.random() * 0.01 if way in ("timeouts", "steps") else PATIENCE_S)
        except RingError:
            continue
        if result.reason not in _GOES_ON or (result.reason is hv.Reason.TIMEOUT and way not in ("timeouts", "steps")):
            return result
