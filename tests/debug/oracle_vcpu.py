"""A vCPU over the oracle's state and memory, for comparing this room with the oracle on the oracle's own cases."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.oracle.state import RSP, Memory, State


def oracle_vcpu(memory: Memory, state: State) -> Any:
    """What `hypervisor.debug` needs of a vCPU, with the oracle's values."""
    vm = SimpleNamespace(memory=memory, tables=SimpleNamespace(a20=-1))
    names = ("rip", "rflags", "cpl", "cr0", "cr2", "cr3", "cr4", "efer", "tr", "ldtr", "gdtr", "idtr")
    return SimpleNamespace(vm=vm, rsp=state.regs[RSP], **{name: getattr(state, name) for name in names}, **state.segs)
