"""What the engine serves and changes by itself, a case leaves as all cases found it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.vm.repeating import short_way

AT = 0x1000
SERVED = {
    "the local APIC's priority": """
        mov al, [0x500]
        mov ebx, [0xfee00080]
        and al, 0xf0
        mov [0xfee00080], eax
        mov ecx, [0xfee00080]
    """,
    "an interrupt that it is sent": """
        mov eax, [0x500]
        and eax, 31
        or eax, 0x40040
        mov ebx, [0xfee00220]
        mov [0xfee00300], eax
        mov ecx, [0xfee00220]
    """,
    "which byte of the PIT's count comes next": """
        mov ecx, [0x500]
        and ecx, 7
        inc ecx
    read:
        in al, 0x40
        shl ebx, 8
        mov bl, al
        loop read
    """,
    "how often the line's status was read": """
        mov ecx, [0x500]
        and ecx, 31
        inc ecx
        mov dx, 0x3fd
    read:
        in al, dx
        add ebx, eax
        loop read
    """,
}
GUEST = """
    mov esp, 0x9000
    mov edx, 0
    mov eax, 0x1ff
    mov [0xfee000f0], eax
    mov al, 0x30
    out 0x43, al
    mov al, 0x55
    out 0x40, al
    out 0x40, al
    mov ecx, 2000
settle:
    loop settle
    mov al, 'R'
    out 0xe9, al
    jmp begin
begin:
    xor eax, eax
    xor ebx, ebx
    xor ecx, ecx
    {served}
    mov [0x600], ebx
    mov [0x604], ecx
    xor eax, eax
    add al, bl
    add al, bh
    add al, cl
    add al, ch
    shr ebx, 16
    add al, bl
    out 0xf4, al
    hlt
"""


@pytest.mark.parametrize("served", SERVED.values(), ids=SERVED)
def test_a_case_leaves_nothing_of_it_behind(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    cases = [bytes((rng.randrange(256), 0, 0, 0)) for _ in range(120)]
    code = assemble(GUEST.format(served=served), origin=AT, mode=32).code
    told: list[int] = []
    real = short_way.ShortCases.ends

    def ends(self: short_way.ShortCases, cases: Sequence[bytes]) -> list[short_way.Found]:
        found = real(self, cases)
        told.append(sum(one is not short_way.NOT_SHORT for one in found))
        return found

    with hv.boot(code, format="flat", at=AT, mode=32, memory="1M") as vm:
        assert vm.run(until=vm.debugcon.contains("R"), timeout=20).reason is hv.Reason.UNTIL
        with vm.snapshot() as ready:
            alone = []
            for case in cases:
                with ready.fork() as fork:
                    fork.memory.write(0x500, case)
                    alone.append(fork.run(virtual_timeout=0.001, timeout=20).status)
            monkeypatch.setattr(short_way.ShortCases, "ends", ends)
            given = ready.map(cases, virtual_timeout=0.001, input=hv.Input(0x500, 4))
            together = [end.status for _, end in given]
            assert together == alone and None not in alone
            assert sum(told) > len(cases) // 2, "they were not run by the engine alone, so this shows nothing"
            assert len(set(alone)) > 1 or "status" in served
            vm.revert(ready)
            with ready.fork() as fork:
                assert vm.state() == fork.state()
