"""A vCPU's record is all of its state: beside what follows from it, no byte of the emulator's differs behind it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest

import hypervisor as hv
from hypervisor.engine import layout
from hypervisor.engine.cpu_record import cpu_state, problem, put_back
from hypervisor.engine.state import SEGMENTS
from tests.core.bare import bare

FOLLOWS = {
    "the operands that arithmetic flags are derived from: EFLAGS has these while no code runs": (144, layout.DF),
    "hidden flags, derived from control registers and segments": (layout.HFLAGS, layout.HFLAGS + 4),
    "what is intercepted: the VM's own": (layout.INTERCEPT, layout.INTERCEPT + 16),
    "x87 and MMX while an instruction is carried out": (layout.FT0, layout.FT0 + 16),
    "control words as Unicorn's helpers for floating point want them, all of which are ours": (776, 784),
    "the same for MXCSR": (800, 816),
    "a memory operand of MMX": (layout.MMX_T0, layout.MMX_T0 + 16),
}
"""Bytes that are dead or derived, from the first to behind the last."""
AGE = "guest_tlb_age"
DEAD_ATTRIBUTES = {at + layout.SEG_FLAGS for at in SEGMENTS.values()}
"""Here the descriptor's high word lies, with bits of base and limit that nothing reads."""


def _follows(at: int) -> bool:
    unused = layout.XMM <= at < layout.XMM + 32 * 64 and (at - layout.XMM) % 64 >= 16
    return unused or any(first <= at < end for first, end in FOLLOWS.values())


def _attributes(word: bytes) -> int:
    return int.from_bytes(word, "little") & 0x00F0FF00


FLOATS = """
    finit; mov dword ptr [0x80000], 0x0c7f; fldcw [0x80000]; mov dword ptr [0x80004], 0x7fa0; ldmxcsr [0x80004]
again: fld1; fldpi; fdivrp; fst qword ptr [0x80010]; fsin; fstp qword ptr [0x80018]; fld dword ptr [0x80020]
    fistp word ptr ds:[rsi + 0x80000]; sqrtsd xmm3, xmm1; jmp again
"""


def machine(guest: str, cpus: int) -> AbstractContextManager[hv.VM]:
    return bare(FLOATS, rsi=0x100) if guest == "floats" else hv.boot(guest, memory="4M", cpus=cpus)


@pytest.mark.parametrize(("guest", "cpus"), [("preempt", 1), ("trapzoo", 1), ("smp", 2), ("hello", 1), ("floats", 1)])
def test_what_is_put_back_is_the_state_to_the_byte(guest: str, cpus: int) -> None:
    with machine(guest, cpus) as vm:
        for _ in range(20):
            vm.run(virtual_timeout=0.0013)
            vm.place.set_down()
            for vcpu in vm.vcpus:
                record = cpu_state(vcpu.registers, vcpu.state.tlb)
                assert problem(record) is None
                new = vm.host.pcpus[0].new_vcpu(vcpu.number)
                new.memory[layout.XMM + 16] = new.memory[layout.XMM + 63] = 0x55  # what the host leaves there
                put_back(new.registers, new.tlb, record)
                assert cpu_state(new.registers, new.tlb) == record
                assert new.registers.dirty
                new.registers.dirty, new.registers.flushes = vcpu.registers.dirty, vcpu.registers.flushes
                new.registers.set_word(AGE, vcpu.registers.word(AGE))  # how often it was flushed is nobody's business
                assert list(new.extra) == list(vcpu.state.extra)
                ours, theirs = bytes(vcpu.state.memory), bytes(new.memory)
                for at in range(0, layout.STATE_SIZE, 4):
                    one, other = ours[at : at + 4], theirs[at : at + 4]
                    same = _attributes(one) == _attributes(other) if at in DEAD_ATTRIBUTES else one == other
                    assert same or _follows(at), f"{guest}, vCPU {vcpu.number}, byte {at}: {one.hex()} {other.hex()}"
