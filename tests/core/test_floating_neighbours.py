"""The host's floating-point unit serves guests by turns: none sees flags, rounding or results of another."""

from __future__ import annotations

import struct
import threading
from contextlib import ExitStack, closing

import numpy as np
import pytest

import hypervisor as hv
from tests.core.bare import DATA, bare
from tests.meanwhile import again_and_again

ROUNDS = 150_000
NUMBERS = (1.0, 3.0, 1e308, 1e-308, 5e-324, 0.0, -0.1, float("inf"), 2**53 + 1.0, 7e-310, -1e200, float("nan"))
CODE = f"""
    mov r8d, {ROUNDS}; mov r9d, {{seed}}; xor r10d, r10d
    again:
    imul r9d, r9d, 1103515245; add r9d, 12345
    mov eax, r9d; shr eax, 28; cmp eax, {len(NUMBERS)}; jb fine; sub eax, {len(NUMBERS)}; fine:
    mov ecx, r9d; shr ecx, 24; and ecx, 7
    movsd xmm0, [{DATA} + rax * 8]; movsd xmm1, [{DATA} + rcx * 8]
    mov edx, r9d; and edx, 0x6000; or edx, 0x1f80; mov [{DATA + 0x200}], edx; ldmxcsr [{DATA + 0x200}]
    movsd xmm2, xmm0; divsd xmm2, xmm1; cvtsd2ss xmm3, xmm2; sqrtsd xmm4, xmm0; mulsd xmm0, xmm1
    stmxcsr [{DATA + 0x204}]; mov edx, [{DATA + 0x204}]
    rol r10, 7; xor r10, rdx; movq rdx, xmm2; add r10, rdx; movq rdx, xmm0; xor r10, rdx; movd edx, xmm3; add r10, rdx
    mov edx, r9d; shr edx, 3; and edx, 0xc00; or edx, 0x37f; mov [{DATA + 0x208}], dx; fninit; fldcw [{DATA + 0x208}]
    fld qword ptr [{DATA} + rax * 8]; fld qword ptr [{DATA} + rcx * 8]; fdivp; fnstsw ax; movzx eax, ax
    fst dword ptr [{DATA + 0x210}]; fstp qword ptr [{DATA + 0x218}]; fnstsw [{DATA + 0x220}]
    rol r10, 5; xor r10, rax; add r10, [{DATA + 0x210}]; xor r10, [{DATA + 0x218}]; movzx eax, word ptr [{DATA + 0x220}]
    add r10, rax
    dec r8d; jnz again
    vmmcall
"""


def guest(stack: ExitStack, host: hv.Host, seed: int, clock: str) -> hv.VM:
    vm = stack.enter_context(bare(CODE.format(seed=seed), host=host, clock=clock))
    vm.memory.write(DATA, struct.pack(f"<{len(NUMBERS)}d", *NUMBERS))
    vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
    return vm


def alone(seed: int) -> int:
    with closing(hv.Host("1M", 1)) as host, ExitStack() as stack:
        result = guest(stack, host, seed, "virtual").run(timeout=60)
        assert result.message == "end"
        return result.r10


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_results_and_flags_are_those_of_a_guest_alone(clock: str) -> None:
    """Three guests on one processor, kicked, beside a thread of the host that raises flags of its own."""
    seeds = (1, 77, 4242)
    expected = [alone(seed) for seed in seeds]
    assert len(set(expected)) == len(seeds)
    with closing(hv.Host("3M", 1)) as host, ExitStack() as stack:
        vms = [guest(stack, host, seed, clock) for seed in seeds]
        found: dict[int, tuple[str, int]] = {}

        def run(number: int) -> None:
            result = vms[number].run(timeout=60)
            found[number] = result.message, result.r10

        def disturb() -> None:
            with np.errstate(all="ignore"):
                np.array([1.0, 0.0, 1e308]) / np.array([0.0, 0.0, 1e-308])
            host.pcpus[0].kick()

        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(vms))]
        with again_and_again(disturb, 0.0003):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert found == {number: ("end", value) for number, value in enumerate(expected)}
