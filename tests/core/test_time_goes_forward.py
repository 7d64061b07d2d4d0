"""Virtual time never goes back, wherever the next instruction lies: a block takes back what it has not executed."""

from __future__ import annotations

from typing import Any

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.core.bare import CODE, TF, bare

FAR = 0x8000
BRANCHES = {
    "near jump": "jmp {low:#x}",
    "indirect jump": "mov rax, {low:#x}; jmp rax",
    "return": "push {low:#x}; ret",
    "far return": "push 8; push {low:#x}; retfq",
    "interrupt return": "mov rax, rsp; push 0x10; push rax; pushfq; push 8; push {low:#x}; iretq",
}
LAST = {
    "hypercall": "vmmcall",
    "refused by the translator": ".byte 0xf0, 0x90",
    "undefined": "ud2",
    "divide": "div ecx",
}


@pytest.mark.parametrize("flags", [2, 2 | TF], ids=["free", "stepped"])
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("last", LAST)
def test_a_branch_back_takes_no_time_back(branch: str, last: str, flags: int) -> None:
    """From far ahead to an instruction that leaves the guest at once, again and again."""
    high = CODE + FAR
    with bare("", rflags=flags, rip=high, rcx=0) as vm:
        vm.memory.write(CODE, assemble(LAST[last], origin=CODE, mode=64).code)
        vm.memory.write(high, assemble(BRANCHES[branch].format(low=CODE), origin=high, mode=64).code)
        times: list[int] = []

        def look(vcpu: hv.Vcpu, exit: hv.Exit) -> Any:
            times.append(vm.clock.now_ns)
            if vcpu.rip == CODE:
                vcpu.rip, vcpu.rsp = high, 0x80000
            return hv.HANDLED if len(times) < 60 else hv.stop("enough")

        vm.traps.hypercall(look)
        for vector in (0, 1, 6):
            vm.traps.exception(vector, look, name=f"vector {vector}")
        assert vm.run(timeout=20).message == "enough"
    assert times == sorted(times)
    assert times[-1] - times[0] < 60 * 2000
