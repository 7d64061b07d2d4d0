"""Code that runs on into a page which is not there: what comes before is executed, and the fault is the next one's."""

from __future__ import annotations

import struct

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.core.bare import DATA, bare

PDPT, DIRECTORY, TABLE = 0x3000, 0x7000, 0x8000
FIRST, SECOND = 0x90000, 0x91000
AT = 4 << 30

LAST = {
    "ends at the page's end": ("inc ecx", 2),
    "crosses the page's end": ("mov edx, 0x12345678", 2),
    "crosses with its last byte": ("mov rdx, 0x123456789abcdef0", 9),
    "begins the next page": ("inc ecx", 0),
}
"""An instruction, and how many of its bytes lie on the first page."""


@pytest.mark.parametrize("before", [1, 3, 40])
@pytest.mark.parametrize("last", LAST)
def test_the_fault_is_that_of_the_instruction_that_needs_the_page(last: str, before: int) -> None:
    text, on_first = LAST[last]
    code = assemble("inc dword ptr [rdi]; " * before + text, origin=0, mode=64).code
    length = len(assemble(text, origin=0, mode=64).code)
    start = 0x1000 - (len(code) - length) - on_first
    with bare("", rdi=DATA) as vm:
        vm.memory.write(PDPT + 8 * 4, struct.pack("<Q", DIRECTORY | 3))
        vm.memory.write(DIRECTORY, struct.pack("<Q", TABLE | 3))
        vm.memory.write(TABLE, struct.pack("<QQ", FIRST | 3, SECOND | 2))
        vm.memory.write(FIRST + start, (code + assemble("vmmcall", origin=0, mode=64).code)[: 0x1000 - start])
        vm.memory.write(SECOND, (code + assemble("vmmcall", origin=0, mode=64).code)[0x1000 - start :])
        vm.vcpu.rip = AT + start
        faults = []

        @vm.traps.exception(14)
        def repair(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            done = int.from_bytes(vm.memory.read(DATA, 4), "little")
            faults.append((vcpu.rip - AT, vcpu.cr2 - AT, exit.error_code, done))
            vm.memory.write(TABLE + 8, struct.pack("<Q", SECOND | 3))
            return hv.RETRY

        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
        assert vm.run(timeout=5, virtual_timeout=0.01).message == "end"
        at = start + len(code) - length + (length if on_first == length else 0)
        assert faults == [(at, 0x1000, faults[0][2], before)]
        assert vm.memory.read(DATA, 4) == before.to_bytes(4, "little")


@pytest.mark.parametrize("at,first", [(0x10, 0x10), (0xFE0, 0x1000), (0xE10, 0x1000)])
def test_fxrstor_tells_the_first_byte_that_is_not_there(at: int, first: int) -> None:
    """Its operand is read as a whole: 512 bytes (APM volume 5, FXRSTOR)."""
    with bare("fxrstor [rdi]; vmmcall", rdi=AT + at) as vm:
        vm.memory.write(PDPT + 8 * 4, struct.pack("<Q", DIRECTORY | 3))
        vm.memory.write(DIRECTORY, struct.pack("<Q", TABLE | 3))
        vm.memory.write(TABLE, struct.pack("<QQ", FIRST | (3 if first == 0x1000 else 2), SECOND | 2))
        faults = []

        @vm.traps.exception(14)
        def note(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            faults.append((vcpu.cr2 - AT, exit.error_code))
            return hv.stop("fault")

        assert vm.run(timeout=5).message == "fault"
        assert faults == [(first, 0)]
