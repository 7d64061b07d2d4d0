"""DIV and IDIV of every width with extreme operands: a quotient, or #DE in the guest and nothing in the host."""

from __future__ import annotations

import itertools

import pytest

import hypervisor as hv

_CODE, _DATA, _ROW = 0x10000, 0x100000, 64
_FORMS = {8: "f6", 16: "66f7", 32: "f7", 64: "48f7"}


def _extremes(bits: int) -> tuple[int, ...]:
    top = 1 << bits - 1
    return (0, 1, 2, 3, top - 1, top, top + 1, 2 * top - 2, 2 * top - 1)


def _divide(rax: int, rdx: int, divisor: int, bits: int, signed: bool) -> tuple[int, int] | None:
    """RAX and RDX after the division, None for #DE (AMD64 APM volume 3, DIV and IDIV)."""
    mask = (1 << bits) - 1
    low, high = (rax & mask, rax >> 8 & mask) if bits == 8 else (rax & mask, rdx & mask)
    dividend = high << bits | low
    divisor &= mask
    if signed:
        dividend -= dividend >> 2 * bits - 1 << 2 * bits
        divisor -= divisor >> bits - 1 << bits
    if divisor == 0:
        return None
    quotient = abs(dividend) // abs(divisor) * (-1 if (dividend < 0) != (divisor < 0) else 1)
    remainder = dividend - quotient * divisor
    if not (-(1 << bits - 1) <= quotient < 1 << bits - 1 if signed else quotient <= mask):
        return None
    quotient, remainder = quotient & mask, remainder & mask
    if bits == 8:
        return rax & ~0xFFFF | remainder << 8 | quotient, rdx
    keep = 0 if bits == 32 else ~mask & (1 << 64) - 1
    return rax & keep | quotient, rdx & keep | remainder


@pytest.mark.parametrize("bits", _FORMS)
@pytest.mark.parametrize("signed", [False, True], ids=["div", "idiv"])
def test_extreme_operands(bits: int, signed: bool) -> None:
    """A row has RAX, RDX, RCX, then RAX and RDX afterwards, then how often #DE was raised."""
    instruction = bytes.fromhex(_FORMS[bits]) + (b"\xf9" if signed else b"\xf1")
    operands = list(itertools.product(_extremes(bits), repeat=3))
    rows = [(high << 8 | low, 0x55, by) if bits == 8 else (low, high, by) for high, low, by in operands]
    code = b"\xbf" + _DATA.to_bytes(4, "little") + b"\xbd" + len(rows).to_bytes(4, "little")
    again = len(code)
    code += bytes.fromhex("488b07 488b5708 488b4f10") + instruction  # mov rax, [rdi]; rdx, [rdi+8]; rcx, [rdi+16]
    code += bytes.fromhex("48894718 48895720 4883c740 ffcd")  # mov [rdi+24], rax; [rdi+32], rdx; add rdi, 64; dec ebp
    code += b"\x75" + (again - len(code) - 2 & 0xFF).to_bytes(1, "little") + b"\xf4"  # jnz again; hlt
    with hv.Host("8M") as host:
        vm = host.create_vm(code, memory="4M", format="flat", at=_CODE, mode=64)

        @vm.traps.exception(0)
        def divide_error(vcpu, exit):  # type: ignore[no-untyped-def]
            vm.memory.write(vcpu.rdi + 40, b"\1")
            vcpu.rip += len(instruction)
            return hv.RETRY

        vm.memory.write(_DATA, b"".join(word.to_bytes(8, "little") for row in rows for word in (*row, *[0] * 5)))
        assert vm.run(timeout=60).reason is hv.Reason.HALTED
        memory = vm.memory.read(_DATA, _ROW * len(rows))
    errors = 0
    for n, row in enumerate(rows):
        words = [int.from_bytes(memory[_ROW * n + at : _ROW * n + at + 8], "little") for at in (24, 32, 40)]
        expected = _divide(*row, bits, signed)
        errors += expected is None
        assert words == ([*row[:2], 1] if expected is None else [*expected, 0]), [hex(word) for word in row]
    assert 0 < errors < len(rows)
