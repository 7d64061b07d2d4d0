"""Another VM on the same host, with a known answer: whoever harms its memory, registers, console or time is caught."""

from __future__ import annotations

from functools import cache

import hypervisor as hv
from hypervisor.assembler import assemble

_AREA, _WORDS = 0x20000, 0x2000
_SOURCE = f"""
.org 0x10000
start:
    mov esp, 0x9000
    mov eax, 1
    mov ecx, rounds
again:
    mov edi, {_AREA}
    mov edx, {_WORDS}
fill:
    imul eax, eax, 1664525
    add eax, 1013904223
    xor [edi], eax
    add edi, 4
    push eax
    pop ebx
    dec edx
    jnz fill
    push eax
    mov al, cl
    and al, 15
    add al, 'a'
    mov dx, 0x3f8
    out dx, al
    pop eax
    dec ecx
    jnz again
    hlt
"""


def _create(host: hv.Host, rounds: int) -> hv.VM:
    code = assemble(_SOURCE.replace("rounds", str(rounds))).code
    return host.create_vm(code, memory="1M", format="flat", at=0x10000, mode=32, name="neighbour")


@cache
def _alone(rounds: int) -> int:
    """When it ends on a host of its own, in nanoseconds of its clock."""
    with hv.Host("4M", 1) as host, _create(host, rounds) as vm:
        assert vm.run(timeout=60).reason in (hv.Reason.HALTED, hv.Reason.IDLE)
        return vm.clock.now_ns


class Neighbour:
    """Works a little whenever `work` is called; `check` lets it finish and compares its memory with the answer."""

    def __init__(self, host: hv.Host, rounds: int = 50) -> None:
        self.rounds = rounds
        self.vm = _create(host, rounds)

    def work(self) -> None:
        """Run it for a moment."""
        result = self.vm.run(virtual_timeout=2e-6)
        assert result.reason is hv.Reason.VIRTUAL_TIMEOUT, result

    def check(self) -> None:
        """Finish, and compare: its time with that of one that was alone and ran without a break."""
        result = self.vm.run(timeout=60)
        assert result.reason in (hv.Reason.HALTED, hv.Reason.IDLE), result
        memory = [0] * _WORDS
        value = 1
        for _ in range(self.rounds):
            for n in range(_WORDS):
                value = (value * 1664525 + 1013904223) & 0xFFFFFFFF
                memory[n] ^= value
        expected = b"".join(word.to_bytes(4, "little") for word in memory)
        assert self.vm.memory.read(_AREA, 4 * _WORDS) == expected, "the neighbour's memory was changed by another VM"
        assert result.eax == value, "the neighbour's registers were changed by another VM"
        written = "".join(chr(ord("a") + (left & 15)) for left in range(self.rounds, 0, -1))
        assert self.vm.console.text == written, "the neighbour's console was changed by another VM"
        assert self.vm.clock.now_ns == _alone(self.rounds), "the neighbour's time was changed by another VM"
        everywhere = self.vm.memory.read(0, self.vm.memory.size)
        quiet = everywhere[0x40000:0x80000]  # the loader has a GDT above
        assert not any(quiet), "something was written into the neighbour's memory"
