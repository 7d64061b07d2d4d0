"""An execute trap at an instruction that is begun twice is told once."""

from __future__ import annotations

from typing import Any

import pytest

import hypervisor as hv
from tests.core.bare import DATA, SYSTEM, addresses, bare

CODE = 0x10000

NATIVE = ("lgdt", "lidt", "lldt", "sgdt", "sidt", "sldt", "str", "pushf", "popf", "invd", "wbinvd", "pause", "invlpg")
"""Kinds of exits whose instruction is executed, or completed, after the handlers have been asked."""


def told(code: str, at: int, watch: Any, **setup: int) -> tuple[list[str], hv.RunResult]:
    """What handlers are told of while code runs to its end, with an execute trap at its instruction ``at``."""
    seen: list[str] = []
    with bare(code + "; vmmcall") as vm:
        for name, value in setup.items():
            vm.vcpu.set(name, value)

        def note(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            seen.append(exit.kind.name.lower())
            return hv.stop("again and again") if len(seen) > 10 else hv.PASS

        vm.traps.execute(addresses(code)[at])(note)
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
        watch(vm, note)
        return seen, vm.run(timeout=5, virtual_timeout=0.01)


@pytest.mark.parametrize("kind", NATIVE)
def test_of_an_instruction_that_is_observed(kind: str) -> None:
    code = SYSTEM[kind]
    seen, result = told(code, -2, lambda vm, note: getattr(vm.traps, kind)(note))
    assert (seen, result.message) == (["execute", kind], "end")


def test_each_time_it_is_executed() -> None:
    seen, result = told("mov ecx, 3; l: pushfq; dec ecx; jnz l", 1, lambda vm, note: vm.traps.pushf(note))
    assert (seen, result.message) == (["execute", "pushf"] * 3, "end")


def test_of_an_instruction_that_hits_a_data_breakpoint() -> None:
    """It is left in its middle, and executed again."""
    code = f"mov eax, {DATA:#x}; mov [rax], eax"
    seen, result = told(code, 1, lambda vm, note: vm.traps.exception(1)(note) and None, dr0=DATA, dr7=0xD0001)
    assert seen == ["execute", "exception"], result.message


def test_of_an_instruction_that_writes_into_its_own_block() -> None:
    """Its block is translated anew, and it is executed again."""
    code = f"mov eax, {CODE + 0x80:#x}; mov byte ptr [rax], 0x90; nop"
    seen, result = told(code, 1, lambda vm, note: None)
    assert (seen, result.message) == (["execute"], "end")
    code = f"mov rax, [{CODE:#x}]; mov [{CODE:#x}], rax; nop"
    seen, result = told(code, 1, lambda vm, note: None)
    assert (seen, result.message) == (["execute"], "end")
