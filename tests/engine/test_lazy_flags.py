"""CMPXCHG8B and CMPXCHG16B change ZF and no other bit of RFLAGS, whatever the flags come from (APM volume 3)."""

from __future__ import annotations

import pytest

from hypervisor.arch.flags import RFLAGS_FIXED, RFLAGS_ZF
from tests.core.bare import DATA, bare

ARITHMETIC_FLAGS = 0x8D5
REGISTERS = (("bl", "cl"), ("bx", "cx"), ("ebx", "ecx"), ("rbx", "rcx"))
BEFORE = [
    *(f"{name} {first}, {other}" for name in ("add", "adc", "sub", "sbb", "cmp", "and") for first, other in REGISTERS),
    *(f"{name} {first}" for name in ("inc", "dec", "neg", "mul") for first, _ in REGISTERS),
    *(f"{name} {first}, cl" for name in ("shl", "sar", "rcl", "rol") for first, _ in REGISTERS),
    "shl ebx, 3", "sar rbx, 5", "xor ebx, ebx", "popcnt ebx, ecx", "bsf ebx, ecx", "bt ebx, 5", "bts rbx, 33",
    "blsr ebx, ecx", "blsmsk rbx, rcx", "bzhi ebx, ecx, ebx", "adcx ebx, ecx", "adox rbx, rcx",
    "adcx ebx, ecx; adox ebx, ecx", "imul ebx, ecx", "sahf", "stc", "cmc", "nop", "popfq", "ptest xmm0, xmm0",
    "fldz; fldz; .byte 0xdf, 0xf1", "cmpxchg8b [rdi]", "cmp ebx, ecx; setc dl", "cmp ebx, ecx; jae over; over:",
]  # fmt: skip
"""Instructions that leave flags of each kind, among them ones of which it is only known when they are executed."""


@pytest.mark.parametrize("code", BEFORE)
def test_the_other_flags_stay(code: str) -> None:
    """The flags before are those that PUSHF stores there. The new ones are read in each way there is."""
    first = f"push 0x8d7; popfq; push 0x8d7; {code}"
    before = _run(f"{first}; pushfq; pop rsi; hlt")[1]
    for name in ("cmpxchg8b", "lock cmpxchg16b"):
        for equal in (False, True):
            after = before & ~RFLAGS_ZF | (RFLAGS_ZF if equal else 0)
            exchange = f"{first}; mov eax, {1 if equal else 2}; mov edx, 0; {name} [rdi]"
            assert _run(f"{exchange}; setc sil; hlt") == (after, after & 1), name
            assert _run(f"{exchange}; pushfq; in al, 0x60; pop rsi; hlt") == (after, after), name


def _run(code: str) -> tuple[int, int]:
    """RFLAGS and RSI. Nothing but the arithmetic flags is ever set there."""
    registers = {"rax": 0x7FFF_FFFF_8000_0081, "rbx": 0x8877_6655_4433_22F1, "rcx": 0x1122_3344_5566_7703, "rdi": DATA}
    with bare(code, **registers) as vm:
        vm.memory.write(DATA, (1).to_bytes(16, "little"))
        vm.run()
        assert vm.vcpu.rflags & ~ARITHMETIC_FLAGS == RFLAGS_FIXED
        return vm.vcpu.rflags, vm.vcpu.rsi
