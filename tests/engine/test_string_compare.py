"""The string compares of SSE4.2, whose helpers in Unicorn read out of bounds and are replaced."""

from __future__ import annotations

import pytest

import hypervisor as hv
from tests.engine.string_compare import ROW, cases, machine_code, oracle, read, row
from tests.engine.test_plain import in_form

_CODE, _DATA = 0x10000, 0x100000


def test_guests_get_what_the_manual_says() -> None:
    everything = cases(seed=2, each=2)
    operands = (b"\xca", b"\x4f\x10")  # XMM1 with XMM2, and with memory at RDI + 16
    code = bytearray(b"\xbf" + _DATA.to_bytes(4, "little"))
    for n, case in enumerate(everything):
        code += machine_code(case, operands[n & 1]) + b"\x48\x83\xc7" + bytes((ROW,))  # add rdi, ROW
    with hv.Host("8M") as host:
        vm = host.create_vm(bytes(code) + b"\xf4", memory="4M", format="flat", at=_CODE, mode=64)
        vm.vcpu.cr4 |= 0x600  # OSFXSR, OSXMMEXCPT
        vm.memory.write(_DATA, b"".join(map(row, everything)))
        assert vm.run(timeout=60).reason is hv.Reason.HALTED
        rows = vm.memory.read(_DATA, ROW * len(everything))
    assert len(code) < _DATA - _CODE
    wrong = [
        (case, oracle(case), result)
        for n, case in enumerate(everything)
        if (result := read(case, rows[ROW * n : ROW * (n + 1)])) != oracle(case)
    ]
    assert not wrong, wrong[:5]


@pytest.mark.parametrize(("kernels", "each"), [("compiled", "10"), ("plain", "2")])
def test_the_kernel_does_what_the_manual_says(kernels: str, each: str) -> None:
    done = in_form(kernels, "-m", "tests.engine.string_compare", "kernel", "3", each)
    assert (done.returncode, done.stdout) == (0, f"{2048 * int(each)} cases, 0 differ from the kernel\n"), done.stderr
