"""Random segment loads and far transfers through generated code and through the oracle."""

from __future__ import annotations

import os

import pytest

from hypervisor.arch.exits import ExitKind
from hypervisor.engine import block as b
from tests.engine.machine import Machine, machine
from tests.oracle.compare import defined_part
from tests.oracle.generate_transfer import MEMORY_SIZE, TRANSFER_MODES, TransferCase, random_transfer
from tests.oracle.random_tables import PAGE_TABLES
from tests.oracle.state import Memory, State
from tests.oracle.transfers import Result, execute

CASES = 20_000 if os.environ.get("HYPERVISOR_STRESS") else 1_000
REGISTERS = ("regs", "rip", "rflags", "cpl", "cr0", "cr3", "ldtr", "tr", "gdtr", "idtr")


def step(guest: Machine, case: TransferCase) -> int:
    guest.fresh()
    guest.memory[:MEMORY_SIZE] = case.memory
    guest.load(case.state)
    guest.put(b.LISTEN_EXCEPTIONS, -1)
    guest.pcpu.on_access(lambda kind: guest.put(b.X_INFO + 24, -1) or 0)  # no memory, no device: all ones
    try:
        return guest.pcpu.step()
    finally:
        guest.put(b.LISTEN_EXCEPTIONS, 0)


def what_differs(guest: Machine, expected: State, memory: Memory | None) -> list[str]:
    """What differs, as sentences. Accessed and dirty bits of pages are the page walk's."""
    state = guest.state()
    found, wanted = defined_part(state), defined_part(expected)
    result = [
        f"{name} is {getattr(found, name)} instead of {getattr(wanted, name)}"
        for name in REGISTERS
        if getattr(found, name) != getattr(wanted, name)
    ]
    for name, segment in wanted.segs.items():
        if found.segs[name] != segment:
            result.append(f"{name} is {found.segs[name]} instead of {segment}")
    for name in ("fs", "gs"):
        if state.segs[name].base != expected.segs[name].base:
            result.append(f"{name}.base is {state.segs[name].base:#x} instead of {expected.segs[name].base:#x}")
    if memory is not None:
        real = guest.memory[:PAGE_TABLES]
        at = [n for n in range(PAGE_TABLES) if real[n] != memory.data[n]] if real != memory.data[:PAGE_TABLES] else []
        if at:
            result.append(f"memory differs at {[hex(n) for n in at[:8]]}")
    return result


def compare(guest: Machine, case: TransferCase) -> tuple[str, list[str]]:
    """What became of it, and all differences."""
    memory = Memory(case.memory)
    expected: Result = execute(memory, case.state, case.transfer)
    kind = step(guest, case)
    found = (guest.word(b.X_INFO), guest.word(b.X_INFO, 1)) if kind == ExitKind.EXCEPTION else None
    if expected.task is not None:
        selector = guest.word(b.W_VECTOR)
        good = kind == ExitKind.TASK_GATE and selector == expected.task
        return "task", [] if good else [f"exit {kind}, {selector:#x} instead of a task switch to {expected.task:#x}"]
    if expected.fault is None:
        return "done", what_differs(guest, expected.state, memory)
    fault = expected.fault
    problems = what_differs(guest, expected.state, None if expected.unsettled else memory)
    if kind != ExitKind.EXCEPTION:
        return "fault", [f"exit {kind} instead of {fault}", *problems]
    if not expected.unsettled and not case.state.protected:
        found = (found[0], 0) if found else None
    if found != (fault.vector, fault.error) and not expected.unsettled:
        problems.append(f"exception {found} instead of {fault}")
    if fault.vector == 14 and not expected.unsettled and guest.registers.get("cr2") != fault.cr2:
        problems.append(f"cr2 is {guest.registers.get('cr2'):#x} instead of {fault.cr2:#x}")
    return "fault", problems


@pytest.mark.parametrize("mode", TRANSFER_MODES)
@pytest.mark.parametrize("watched", [False, True])
def test_random_transfers(mode: str, watched: bool) -> None:
    """While anything is watched all stack accesses go through the TLB, with the same results."""
    guest = machine(MEMORY_SIZE)
    guest.tables.watch_virtual([(range(1 << 40, (1 << 40) + 4096), "rwx")] if watched else [])
    guest.pcpu.bind(guest.tables)
    outcomes: dict[str, int] = {}
    try:
        for seed in range(CASES):
            case = random_transfer(seed, mode)
            outcome, problems = compare(guest, case)
            assert not problems, f"random_transfer({seed}, {mode!r}): {case.transfer}: " + "; ".join(problems)
            key = f"{case.transfer.what} {outcome}"
            outcomes[key] = outcomes.get(key, 0) + 1
    finally:
        guest.tables.watch_virtual([])
        guest.pcpu.bind(guest.tables)
    for what in {key.split()[0] for key in outcomes}:
        assert outcomes.get(f"{what} done", 0) > CASES // 30 and outcomes.get(f"{what} fault", 0), outcomes
